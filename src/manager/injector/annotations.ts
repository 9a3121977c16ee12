import type { V1Pod } from '../../kube/index.ts';
import type { Workload } from '../cluster/cluster.ts';
import { badAnnotation } from '../errors.ts';

const prefix = 'telepresence.io/';
/** Of releases before 2.22; honoured, and told to the log. */
const oldPrefix = 'telepresence.getambassador.io/';

export const annotation = {
  inject: `${prefix}inject-traffic-agent`,
  config: `${prefix}agent-config`,
  restartedAt: `${prefix}restartedAt`,
} as const;

type Annotations = Readonly<Record<string, string>>;

/** What the owner of a workload wishes, as the annotations of its pod template say it. */
export interface Wishes {
  /** Undefined: when somebody attaches to it. */
  readonly inject: 'enabled' | 'disabled' | undefined;
  /** Undefined: every service that leads there. */
  readonly serviceName: string | undefined;
  /** Names or numbers, each perhaps with `/TCP` or `/UDP`. Undefined: every port of the services. */
  readonly servicePorts: readonly string[] | undefined;
  /** Ports to be taken over without a service; `all` that are declared. */
  readonly containerPorts: readonly string[] | 'all';
  /** The agent is a part of the manifest: nothing is injected, and nothing re-created. */
  readonly isManual: boolean;
  /** Annotations whose prefix is out of use. */
  readonly legacy: readonly string[];
}

/** Errors: `manager.bad-annotation`. */
export function wishesOf({ name, object }: Workload): Wishes {
  return readWishes(name, object.spec?.template?.metadata?.annotations ?? {});
}

export function readWishes(workload: string, annotations: Annotations): Wishes {
  const read = (...suffixes: readonly string[]): string | undefined =>
    suffixes.map((suffix) => annotations[prefix + suffix] ?? annotations[oldPrefix + suffix]).find((text) => !!text);
  const ports = (...suffixes: readonly string[]): readonly string[] | undefined => {
    const text = read(...suffixes);
    const listed = text?.split(',').map((each) => each.trim());
    const odd = listed?.find((each) => !/^[a-z0-9-]{1,63}(\/(TCP|UDP))?$/i.test(each));
    if (odd !== undefined) {
      throw badAnnotation(workload, suffixes[0] ?? '', odd);
    }
    return listed;
  };
  const inject = read('inject-traffic-agent');
  if (inject !== undefined && !['enabled', 'disabled', 'false'].includes(inject)) {
    throw badAnnotation(workload, 'inject-traffic-agent', inject);
  }
  const containerPorts = ports('inject-container-ports') ?? [];
  return {
    inject: inject === undefined ? undefined : inject === 'enabled' ? 'enabled' : 'disabled',
    serviceName: read('inject-service-name'),
    servicePorts: ports('inject-service-ports', 'inject-service-port'),
    containerPorts: containerPorts.includes('all') ? 'all' : containerPorts,
    isManual: read('manually-injected') === 'true',
    legacy: Object.keys(annotations).filter((key) => key.startsWith(oldPrefix)),
  };
}

/** By its own annotation, which it has from its workload's template. */
export const wantsAgent = ({ metadata }: V1Pod): boolean =>
  (metadata?.annotations?.[annotation.inject] ?? metadata?.annotations?.[`${oldPrefix}inject-traffic-agent`]) ===
  'enabled';
