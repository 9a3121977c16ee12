import type { V1Container, V1ContainerPort, V1Service, V1ServicePort } from '../../kube/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import { ambiguousPort, noServicePort } from '../errors.ts';
import { type Wishes, wishesOf } from './annotations.ts';

export type Protocol = 'TCP' | 'UDP';

/** A port of a container, and how callers come to it. */
export interface PortTarget {
  /** Empty where no service leads there. */
  readonly serviceName: string;
  readonly serviceUid: string;
  readonly servicePort: V1ServicePort;
  readonly container: V1Container;
  readonly containerPort: number;
  /** As the container declares it. */
  readonly portName: string | undefined;
  readonly protocol: Protocol;
  /**
   * `name`: a service refers to the port by its name, which the agent can have instead. `number`: callers use the
   * number, by a service or straight to the pod; it stays where it is, and has to be redirected inside the pod.
   */
  readonly calledBy: 'name' | 'number';
  /** The owner wants it taken over, whoever attaches to what. */
  readonly isWished: boolean;
}

/** A container port of a pod, as `8080/TCP`. */
export type PortKey = string;

export const portKeyOf = ({ containerPort, protocol }: Pick<PortTarget, 'containerPort' | 'protocol'>): PortKey =>
  `${containerPort}/${protocol}`;

/** Neither the agent nor the wire carries SCTP. */
const protocolOf = (text: string | undefined): Protocol | undefined =>
  text === undefined || text === 'TCP' ? 'TCP' : text === 'UDP' ? 'UDP' : undefined;

/** Every port that can be attached to: those that services lead to, then what containers declare beside them. */
export function portTargets(view: ClusterView, workload: Workload): PortTarget[] {
  const wishes = wishesOf(workload);
  const containers = workload.object.spec?.template?.spec?.containers ?? [];
  const served = view
    .servicesOf(workload)
    .filter(({ metadata }) => wishes.serviceName === undefined || metadata?.name === wishes.serviceName)
    .flatMap((service) => serviceTargets(service, containers, wishes));
  const known = new Set(served.map(portKeyOf));
  const unserved = [...declaredTargets(containers, wishes), ...wishedTargets(containers, wishes)].filter((target) => {
    const isNew = !known.has(portKeyOf(target));
    known.add(portKeyOf(target));
    return isNew;
  });
  return [...served, ...unserved];
}

function serviceTargets(
  { metadata, spec }: V1Service,
  containers: readonly V1Container[],
  { servicePorts }: Wishes,
): PortTarget[] {
  return (spec?.ports ?? []).flatMap((servicePort) => {
    const protocol = protocolOf(servicePort.protocol);
    const target = servicePort.targetPort ?? servicePort.port;
    if (!protocol || (servicePorts && !isListed(servicePorts, servicePort.name, servicePort.port, protocol))) {
      return [];
    }
    const declared = containers
      .flatMap((container) => (container.ports ?? []).map((port) => ({ container, port })))
      .find(
        ({ port }) =>
          protocolOf(port.protocol) === protocol && (port.name === target || port.containerPort === Number(target)),
      );
    const container = declared?.container ?? (Number.isInteger(Number(target)) ? containers[0] : undefined);
    const containerPort = declared?.port.containerPort ?? Number(target);
    // Without an address of its own a service only names the pods: callers choose the number.
    const isNamed = typeof target === 'string' && declared?.port.name === target && spec?.clusterIP !== 'None';
    return container && Number.isInteger(containerPort)
      ? [
          {
            serviceName: metadata?.name ?? '',
            serviceUid: metadata?.uid ?? '',
            servicePort,
            container,
            containerPort,
            portName: declared?.port.name,
            protocol,
            calledBy: isNamed ? 'name' : 'number',
            isWished: false,
          } as const,
        ]
      : [];
  });
}

/** `http`, `8080`, `dns/UDP`. */
function isListed(list: readonly string[], name: string | undefined, port: number, protocol: Protocol): boolean {
  return list.some((each) => {
    const [id, wanted] = each.split('/');
    return (id === name || Number(id) === port) && (!wanted || wanted.toUpperCase() === protocol);
  });
}

function declaredTargets(containers: readonly V1Container[], { containerPorts }: Wishes): PortTarget[] {
  return containers.flatMap((container) =>
    (container.ports ?? []).flatMap((port) => {
      const protocol = protocolOf(port.protocol);
      const isWished =
        containerPorts === 'all' ||
        (protocol !== undefined && isListed(containerPorts, port.name, port.containerPort, protocol));
      return protocol ? [unservedTarget(container, port, protocol, isWished)] : [];
    }),
  );
}

/** Numbers that no container declares: the first container is meant, as with a service's number. */
function wishedTargets([first]: readonly V1Container[], { containerPorts }: Wishes): PortTarget[] {
  return containerPorts === 'all' || !first
    ? []
    : containerPorts.flatMap((each) => {
        const [id, protocol = 'TCP'] = each.split('/');
        const containerPort = Number(id);
        return containerPort > 0 && containerPort < 65_536
          ? [unservedTarget(first, { containerPort }, protocol.toUpperCase() === 'UDP' ? 'UDP' : 'TCP', true)]
          : [];
      });
}

const unservedTarget = (
  container: V1Container,
  port: V1ContainerPort,
  protocol: Protocol,
  isWished: boolean,
): PortTarget => ({
  serviceName: '',
  serviceUid: '',
  servicePort: { port: 0 },
  container,
  containerPort: port.containerPort,
  portName: port.name,
  protocol,
  calledBy: 'number',
  isWished,
});

/** The ports of a container, whether a service leads there or not. */
export const containerTargets = (targets: readonly PortTarget[], { name }: V1Container): PortTarget[] =>
  targets.filter(({ container }) => container.name === name);

/** The one port that a user's identifier means: a name or number, with `/TCP` or `/UDP`; empty when there is only one. */
export function choosePort(
  targets: readonly PortTarget[],
  workload: string,
  identifier: string,
  service: string,
): PortTarget {
  const [id = '', protocol] = identifier.split('/');
  const isOfService = ({ servicePort, serviceName }: PortTarget): boolean =>
    serviceName !== '' && (servicePort.name === id || servicePort.port === Number(id));
  const isMeant = (target: PortTarget): boolean =>
    isOfService(target) || target.portName === id || target.containerPort === Number(id);
  const matching = targets.filter(
    (target) =>
      (!service || target.serviceName === service) &&
      (!protocol || target.protocol === protocol.toUpperCase()) &&
      (!id || isMeant(target)),
  );
  // The service's own name or number goes before the container's, and what a service leads to before all else.
  const served = matching.filter(({ serviceName }) => serviceName !== '');
  const meant = [id ? matching.filter(isOfService) : [], served, matching].find(({ length }) => length > 0) ?? [];
  // Whoever names no protocol means TCP where there is one.
  const tcp = meant.filter((target) => target.protocol === 'TCP');
  const candidates = protocol || tcp.length === 0 ? meant : tcp;
  // Where both lead to it, the name needs no redirection.
  const only = candidates.find(({ calledBy }) => calledBy === 'name') ?? candidates[0];
  if (!only) {
    throw noServicePort(workload, identifier);
  }
  if (candidates.some((each) => each.containerPort !== only.containerPort)) {
    throw ambiguousPort(workload, candidates.map(shownName));
  }
  return only;
}

const shownName = ({ serviceName, servicePort, portName, containerPort }: PortTarget): string =>
  serviceName ? (servicePort.name ?? String(servicePort.port)) : (portName ?? String(containerPort));
