import type { V1Container, V1Pod, V1ServicePort } from '../../kube/index.ts';
import {
  agentHealthPort,
  firstAgentPort,
  replacedContainer,
  type SidecarConfig,
  type SidecarPort,
} from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import {
  agentPortTaken,
  ambiguousPort,
  isTheManager,
  noServicePort,
  notInterceptable,
  numericTargetPort,
} from '../errors.ts';

export const annotation = {
  inject: 'telepresence.io/inject-traffic-agent',
  config: 'telepresence.io/agent-config',
  restartedAt: 'telepresence.io/restartedAt',
} as const;

/** By its own annotation, which it has from its workload's template. */
export const wantsAgent = ({ metadata }: V1Pod): boolean => metadata?.annotations?.[annotation.inject] === 'enabled';

/** A service port that leads to a container of a workload. */
export interface PortTarget {
  readonly serviceName: string;
  readonly serviceUid: string;
  readonly servicePort: V1ServicePort;
  readonly container: V1Container;
  readonly containerPort: number;
  /** The container port's name, when the service refers to it by name: only then can the agent take its place. */
  readonly portName: string | undefined;
  readonly protocol: 'TCP' | 'UDP';
}

export function portTargets(view: ClusterView, workload: Workload): PortTarget[] {
  const containers = workload.object.spec?.template?.spec?.containers ?? [];
  return view.servicesOf(workload).flatMap((service) =>
    (service.spec?.ports ?? []).flatMap((servicePort) => {
      const target = servicePort.targetPort ?? servicePort.port;
      const protocol = servicePort.protocol === 'UDP' ? 'UDP' : 'TCP';
      const found = containers
        .flatMap((container) => (container.ports ?? []).map((port) => ({ container, port })))
        .find(
          ({ port }) =>
            (port.protocol ?? 'TCP') === protocol && (port.name === target || port.containerPort === Number(target)),
        );
      const container = found?.container ?? (Number.isInteger(Number(target)) ? containers[0] : undefined);
      const containerPort = found?.port.containerPort ?? Number(target);
      return container && Number.isInteger(containerPort)
        ? [
            {
              serviceName: service.metadata?.name ?? '',
              serviceUid: service.metadata?.uid ?? '',
              servicePort,
              container,
              containerPort,
              portName: typeof target === 'string' && found?.port.name === target ? target : undefined,
              protocol,
            } as const,
          ]
        : [];
    }),
  );
}

/** The one port that a user's identifier means: a name or number, with `/TCP` or `/UDP`; empty when there is only one. */
export function choosePort(
  targets: readonly PortTarget[],
  workload: string,
  identifier: string,
  service: string,
  /** A container that is taken away leaves its numbers to the agent, whoever refers to them. */
  { isReplaced = false } = {},
): PortTarget {
  const [id = '', protocol] = identifier.split('/');
  const isMeant = ({ servicePort, containerPort, portName }: PortTarget): boolean =>
    servicePort.name === id || servicePort.port === Number(id) || portName === id || containerPort === Number(id);
  const matching = targets.filter(
    (target) =>
      (!service || target.serviceName === service) &&
      (!protocol || target.protocol === protocol.toUpperCase()) &&
      (!id || isMeant(target)),
  );
  // What can be intercepted goes before what cannot; the service's own name or number before the container's.
  const byService = matching.filter(
    ({ servicePort }) => id && (servicePort.name === id || servicePort.port === Number(id)),
  );
  const meant = (byService.length > 0 ? byService : matching).filter((target) => isReplaced || canDivert(target));
  // Whoever names no protocol means TCP where there is one.
  const tcp = meant.filter((target) => target.protocol === 'TCP');
  const able = protocol || tcp.length === 0 ? meant : tcp;
  const candidates = able.length === 0 ? matching : able;
  const [only, another] = candidates;
  if (!only) {
    throw noServicePort(workload, identifier);
  }
  if (another && candidates.some((each) => each.containerPort !== only.containerPort)) {
    throw ambiguousPort(
      workload,
      candidates.map(({ servicePort }) => servicePort.name ?? String(servicePort.port)),
    );
  }
  if (only.portName === undefined && !isReplaced) {
    throw numericTargetPort(only.serviceName, only.containerPort);
  }
  return only;
}

/** The agent can only take the place of a named port: any other port must stay where it is. */
const canDivert = ({ portName }: PortTarget): boolean => portName !== undefined;

export interface PlanOptions {
  readonly managerHost: string;
  readonly managerPort: number;
  readonly logLevel: string;
}

/** The ports of a container, whether a service leads there or not. */
export function containerTargets(targets: readonly PortTarget[], container: V1Container): PortTarget[] {
  const served = targets.filter((target) => target.container.name === container.name);
  const others = (container.ports ?? [])
    .map((port) => ({ port, protocol: port.protocol === 'UDP' ? 'UDP' : 'TCP' }) as const)
    .filter(
      ({ port, protocol }) =>
        !served.some((each) => each.containerPort === port.containerPort && each.protocol === protocol),
    )
    .map(
      ({ port, protocol }): PortTarget => ({
        serviceName: '',
        serviceUid: '',
        servicePort: { port: 0 },
        container,
        containerPort: port.containerPort,
        portName: port.name,
        protocol,
      }),
    );
  return [...served, ...others];
}

/**
 * The sidecar's configuration: every named service port gets an agent port of its own; of a container that is taken
 * away, the agent has all ports at their own numbers. Pure.
 */
export function planSidecar(
  view: ClusterView,
  workload: Workload,
  options: PlanOptions,
  replaced: ReadonlySet<string> = new Set(),
): SidecarConfig {
  const inject = workload.object.spec?.template?.metadata?.annotations?.[annotation.inject];
  if (inject === 'disabled' || inject === 'false') {
    throw notInterceptable(workload.name);
  }
  if (options.managerHost === `${workload.name}.${workload.namespace}`) {
    throw isTheManager();
  }
  const all = portTargets(view, workload);
  const targets = all.filter((target) => canDivert(target) && !replaced.has(target.container.name));
  const containers = workload.object.spec?.template?.spec?.containers ?? [];
  const agentPorts = agentPortsFor(
    targets.map(({ containerPort }) => containerPort),
    containers.flatMap(({ ports = [] }) => ports.map(({ containerPort }) => containerPort)),
    workload.name,
  );
  return {
    agentName: workload.name,
    namespace: workload.namespace,
    workloadName: workload.name,
    workloadKind: workload.kind,
    managerHost: options.managerHost,
    managerPort: options.managerPort,
    logLevel: options.logLevel,
    containers: containers.map((container, index) => ({
      name: container.name,
      envPrefix: `${letters(index)}_`,
      mountPoint: `/tel_app_mounts/${container.name}`,
      ...(replaced.has(container.name) ? { replace: replacedContainer } : {}),
      intercepts: (replaced.has(container.name)
        ? containerTargets(all, container)
        : targets.filter((target) => target.container.name === container.name)
      ).map(
        (target): SidecarPort => ({
          containerPortName: target.portName,
          serviceName: target.serviceName,
          serviceUID: target.serviceUid,
          servicePortName: target.servicePort.name,
          servicePort: target.servicePort.port,
          protocol: target.protocol,
          containerPort: target.containerPort,
          agentPort: replaced.has(container.name)
            ? target.containerPort
            : (agentPorts.get(target.containerPort) ?? firstAgentPort),
        }),
      ),
    })),
  };
}

/** One port of the agent per container port; those that the application has declared are left to it. */
function agentPortsFor(wanted: readonly number[], declared: readonly number[], workload: string): Map<number, number> {
  if (declared.includes(agentHealthPort)) {
    throw agentPortTaken(workload, agentHealthPort);
  }
  const ports = new Map<number, number>();
  let next = firstAgentPort;
  for (const containerPort of wanted) {
    if (!ports.has(containerPort)) {
      while (declared.includes(next)) {
        next++;
      }
      ports.set(containerPort, next++);
    }
  }
  return ports;
}

/** 0 → A, 25 → Z, 26 → AA. */
function letters(index: number): string {
  const head = index >= 26 ? letters(Math.floor(index / 26) - 1) : '';
  return head + String.fromCharCode(65 + (index % 26));
}
