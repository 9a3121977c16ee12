import type { V1Container } from '../../kube/index.ts';
import type { PatchOperation } from './patch.ts';

/** What calls a container: probes and lifecycle hooks. They mean the application, whoever is attached to it. */
interface Caller {
  readonly httpGet?: { readonly port: unknown; readonly host?: string };
  readonly tcpSocket?: { readonly port: unknown; readonly host?: string };
  readonly grpc?: { readonly port: unknown };
}

/** Where the ports of an application are found now. */
export interface HiddenPorts {
  /** New names, by `hiddenKey`. */
  readonly hidden: ReadonlyMap<string, string>;
  /** Numbers that lead past a redirection, by the container's own. */
  readonly past: ReadonlyMap<number, number>;
}

/** In different containers the same name may stand for a TCP and a UDP port. */
export const hiddenKey = (name: string, protocol = 'TCP'): string => `${name}/${protocol}`;

function callersOf({ livenessProbe, readinessProbe, startupProbe, lifecycle }: V1Container): [string, Caller][] {
  const found: Record<string, Caller | undefined> = {
    livenessProbe,
    readinessProbe,
    startupProbe,
    'lifecycle/postStart': lifecycle?.postStart,
    'lifecycle/preStop': lifecycle?.preStop,
  };
  return Object.entries(found).filter((entry): entry is [string, Caller] => entry[1] !== undefined);
}

interface Call {
  readonly path: string;
  /** As it is written: a name or a number. */
  readonly port: unknown;
  /** Of this pod; where another host is named it is somebody else's. */
  readonly number: number | undefined;
}

function* callsOf(container: V1Container): Generator<Call> {
  for (const [key, caller] of callersOf(container)) {
    for (const way of ['httpGet', 'tcpSocket', 'grpc'] as const) {
      const called = caller[way];
      if (called) {
        const { port } = called;
        const named = container.ports?.find(({ name, protocol = 'TCP' }) => name === port && protocol === 'TCP');
        const number = typeof port === 'number' ? port : named?.containerPort;
        const isElsewhere = 'host' in called && called.host !== undefined && called.host !== '';
        yield { path: `${key}/${way}/port`, port, number: isElsewhere ? undefined : number };
      }
    }
  }
}

/** The TCP ports that a container is called at. */
export const calledPorts = (container: V1Container): number[] =>
  [...callsOf(container)].map(({ number }) => number).filter((port) => port !== undefined);

/**
 * In every container, not only the intercepted one: a service takes the first port of a name in the pod, and the
 * agent comes last.
 */
export function hidePorts(container: V1Container, index: number, { hidden, past }: HiddenPorts): PatchOperation[] {
  const replace = (path: string, value: string | number | undefined): PatchOperation[] =>
    value === undefined ? [] : [{ op: 'replace', path: `/spec/containers/${index}/${path}`, value }];
  const newName = (port: unknown, protocol?: string): string | undefined =>
    typeof port === 'string' ? hidden.get(hiddenKey(port, protocol)) : undefined;
  return [
    ...(container.ports ?? []).flatMap(({ name, protocol }, at) =>
      replace(`ports/${at}/name`, newName(name, protocol)),
    ),
    ...[...callsOf(container)].flatMap(({ path, port, number }) =>
      replace(path, newName(port) ?? (number === undefined ? undefined : past.get(number))),
    ),
  ];
}
