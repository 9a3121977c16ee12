import type { V1Container, V1Namespace } from '../../kube/index.ts';
import { replacedContainer, type SidecarConfig, type SidecarPort, type wire } from '../../protocol/index.ts';
import { portsOf } from '../service/claims.ts';
import { type PortKey, type PortTarget, portKeyOf } from './targets.ts';

/** The levels of Pod Security that forbid NET_ADMIN to every container. */
const forbidding: ReadonlySet<string> = new Set(['baseline', 'restricted']);
const enforceLabel = 'pod-security.kubernetes.io/enforce';

/** The level that keeps a redirecting init container out of a namespace; undefined where it may come. */
export function forbiddingLevel(namespace: V1Namespace | undefined): string | undefined {
  const level = namespace?.metadata?.labels?.[enforceLabel];
  return level !== undefined && forbidding.has(level) ? level : undefined;
}

/**
 * The ports of an intercept that are called by their number: the agent only gets them by redirection. Of its own service
 * and of any other for its further ports, as these name none.
 */
export function redirectedBy(spec: wire.InterceptSpec, targets: readonly PortTarget[]): PortKey[] {
  return portsOf(spec).filter((key, index) => {
    const isOwn = index === 0 && spec.containerPort !== 0 && spec.serviceName !== '';
    const leading = targets.filter(
      (target) => portKeyOf(target) === key && (!isOwn || target.serviceName === spec.serviceName),
    );
    return leading.length > 0 && leading.every(({ calledBy }) => calledBy === 'number');
  });
}

/** The ports that a configuration redirects. */
export const redirectedPorts = (config: SidecarConfig): SidecarPort[] => {
  const ports = config.containers
    .filter(({ replace }) => replace !== replacedContainer)
    .flatMap(({ intercepts }) => intercepts.filter(({ targetPortNumeric }) => targetPortNumeric));
  return [...new Map(ports.map((port) => [keyOf(port), port])).values()];
};

export const redirectedKeys = (config: SidecarConfig | undefined): PortKey[] =>
  config ? redirectedPorts(config).map(keyOf) : [];

const keyOf = ({ containerPort, protocol = 'TCP' }: SidecarPort): PortKey => portKeyOf({ containerPort, protocol });

/** Numbers that lead past the agent, by the TCP ports that probes and hooks call: these mean the application. */
export function probePorts(
  containers: readonly V1Container[],
  config: SidecarConfig,
  called: readonly number[],
): ReadonlyMap<number, number> {
  const redirected = new Set(
    redirectedPorts(config)
      .filter(({ protocol }) => protocol !== 'UDP')
      .map(({ containerPort }) => containerPort),
  );
  const taken = new Set([
    ...containers.flatMap(({ ports = [] }) => ports.map(({ containerPort }) => containerPort)),
    ...config.containers.flatMap(({ intercepts }) => intercepts.map(({ agentPort }) => agentPort)),
  ]);
  let next = Math.max(
    ...config.containers.flatMap(({ intercepts }) => intercepts.map(({ agentPort }) => agentPort)),
    0,
  );
  const found = new Map<number, number>();
  for (const port of called) {
    if (redirected.has(port) && !found.has(port)) {
      do {
        next++;
      } while (taken.has(next));
      found.set(port, next);
    }
  }
  return found;
}

export const initContainerName = 'tel-agent-init';

/** What programs the redirections, once, before anything else of the pod runs. Only here is NET_ADMIN. */
export function initContainer(
  config: SidecarConfig,
  past: ReadonlyMap<number, number>,
  { agentUid, ...shared }: { readonly agentUid: number; readonly image: string; readonly imagePullPolicy: string },
): object {
  const protocolOf = ({ protocol }: SidecarPort): string => (protocol === 'UDP' ? 'udp' : 'tcp');
  return {
    name: initContainerName,
    ...shared,
    command: ['/app/redirect'],
    args: [
      String(agentUid),
      ...redirectedPorts(config).map((port) => `take:${port.containerPort}:${port.agentPort}:${protocolOf(port)}`),
      ...[...past].map(([port, number]) => `pass:${number}:${port}:tcp`),
    ],
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      // A user without rights would lose the capability when the program starts.
      runAsNonRoot: false,
      runAsUser: 0,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
  };
}
