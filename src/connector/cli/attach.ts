import { resolve } from 'node:path';
import { serializePathFilter } from '../../protocol/index.ts';
import type { AttachMode, AttachRequest, MountRequest, PodPort, PortMapping } from '../contract.ts';
import { badRequest } from '../errors.ts';

/** The flags of `intercept`, `wiretap`, `replace` and `ingest`, named as those of the public client where it has them. */
export const attachFlags = {
  workload: { type: 'string', short: 'w' },
  name: { type: 'string' },
  port: { type: 'string', short: 'p', multiple: true },
  service: { type: 'string' },
  container: { type: 'string', short: 'c' },
  'http-header': { type: 'string', multiple: true },
  'http-path-equal': { type: 'string', multiple: true },
  'http-path-prefix': { type: 'string', multiple: true },
  'http-path-regex': { type: 'string', multiple: true },
  'http-method': { type: 'string', multiple: true },
  'to-pod': { type: 'string', multiple: true },
  mount: { type: 'string' },
  'env-file': { type: 'string', short: 'e' },
  'env-json': { type: 'string', short: 'j' },
  'env-syntax': { type: 'string' },
} as const;

export const attachUsage = `  nearfield intercept | wiretap WORKLOAD [--port LOCAL[:SERVICE PORT][/UDP]]… [--service S]
                    [--http-header NAME=VALUE]… [--http-method M]…
                    [--http-path-equal P]… [--http-path-prefix P]… [--http-path-regex R]…
  nearfield replace WORKLOAD [--container C] [--port LOCAL:CONTAINER PORT[/UDP]]…
  nearfield ingest WORKLOAD [--container C]
                    all: [--namespace N] [--name NAME] [--to-pod PORT[/UDP]]… [--json]
                    [--mount true|false|FOLDER[:ro]]: the container's volumes as files; true is a folder of Nearfield's own
                    [-e F] [--env-syntax compose|docker|sh|sh:export] [-j F]: the environment, into a file; - is the terminal
`;

/** What `parseArgs` makes of the flags. */
export type AttachValues = {
  readonly [K in keyof typeof attachFlags]?: (typeof attachFlags)[K] extends { multiple: true }
    ? readonly string[] | undefined
    : string | undefined;
} & { readonly namespace?: string | undefined };

/** Errors: `connector.bad-request`; what the words mean is checked where they are used. */
export function readAttach(mode: AttachMode, argument: string | undefined, values: AttachValues): AttachRequest {
  if (!argument) {
    throw badRequest(`say which workload: nearfield ${mode} WORKLOAD …`);
  }
  const ports = (values.port ?? []).flatMap((each) => (mode === 'replace' && each === 'all' ? [] : [readPort(each)]));
  if ((mode === 'intercept' || mode === 'wiretap') && ports.length === 0) {
    throw badRequest(`say which port of this machine: nearfield ${mode} ${argument} --port LOCAL[:SERVICE PORT]`);
  }
  return {
    mode,
    // As with the public client: with --workload the first word is the attachment's name.
    workload: values.workload ?? argument,
    ...optional('name', values.name ?? (values.workload === undefined ? undefined : argument)),
    ...optional('namespace', values.namespace),
    ...optional('service', values.service),
    ...optional('container', values.container),
    ports,
    filters: {
      headers: Object.fromEntries((values['http-header'] ?? []).map(readHeader)),
      paths: (['equal', 'prefix', 'regex'] as const).flatMap((kind) =>
        (values[`http-path-${kind}`] ?? []).map((value) => serializePathFilter({ kind, value })),
      ),
      methods: (values['http-method'] ?? []).flatMap((each) => each.split(',')),
    },
    toPod: (values['to-pod'] ?? []).flatMap((each) => each.split(',')).map(readPodPort),
    mount: readMount(values.mount ?? 'true'),
  };
}

/** `true`, `false`, `folder`, each but `false` with `:ro`. The folder is as seen from where the command is given. */
export function readMount(text: string): MountRequest | undefined {
  const isReadOnly = text.endsWith(':ro');
  const where = isReadOnly ? text.slice(0, -3) : text;
  if (where === 'false') {
    return undefined;
  }
  return { isReadOnly, ...(where === 'true' || where === '' ? {} : { folder: resolve(where) }) };
}

const optional = <K extends string>(key: K, value: string | undefined): Partial<Record<K, string>> =>
  value === undefined ? {} : ({ [key]: value } as Record<K, string>);

/** `3000`, `3000:http`, `3000:8080/UDP`. */
function readPort(text: string): PortMapping {
  const match = /^(\d{1,5})(?::([^/:]+))?(?:\/(tcp|udp))?$/i.exec(text);
  if (!match) {
    throw badRequest(`${text.slice(0, 60)} is no port: write LOCAL[:PORT][/UDP], for example 3000:http`);
  }
  const [, local, remote, protocol] = match;
  return { local: Number(local), ...optional('remote', remote), protocol: protocolOf(protocol) };
}

/** `Name=value` or `Name: value`. */
function readHeader(text: string): readonly [string, string] {
  const match = /^([^=:\s]+)(?:=|:\s*)(.*)$/s.exec(text);
  if (!match) {
    throw badRequest(`${text.slice(0, 60)} is no header: write NAME=VALUE`);
  }
  return [match[1] ?? '', match[2] ?? ''];
}

function readPodPort(text: string): PodPort {
  const match = /^(\d{1,5})(?:\/(tcp|udp))?$/i.exec(text.trim());
  if (!match) {
    throw badRequest(`${text.slice(0, 60)} is no port of a pod: write PORT[/UDP]`);
  }
  return { port: Number(match[1]), protocol: protocolOf(match[2]) };
}

const protocolOf = (text: string | undefined): 'TCP' | 'UDP' => (text?.toUpperCase() === 'UDP' ? 'UDP' : 'TCP');
