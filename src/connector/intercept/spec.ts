import { create } from '@bufbuild/protobuf';
import { hasFilters, methodFilter, parseMethods, wire } from '../../protocol/index.ts';
import type { AttachedPort, AttachMode, Attachment, PodPort, PortProtocol } from '../contract.ts';
import { type AttachPlan, allPorts, type PlannedPort, portText } from './request.ts';

/** Never another address: the cluster's requests come to programs of this machine alone. */
export const localHost = '127.0.0.1';
const dialTimeoutNs = 5_000_000_000n;
const roundtripLatencyNs = 2_000_000_000n;
const { ACTIVE, WAITING, NO_AGENT } = wire.InterceptDispositionType;

/** What the manager is asked to prepare: as the person said it. */
export function toSpec(plan: AttachPlan, client: string, name: string): wire.InterceptSpec {
  const { mode, workload, kind, namespace, service, container, filters, toPod } = plan;
  const [first, ...others] = plan.ports;
  return create(wire.InterceptSpecSchema, {
    name,
    client,
    agent: workload,
    namespace,
    workloadKind: kind,
    mechanism: hasFilters(filters) ? 'http' : 'tcp',
    ...filters,
    pathFilters: [...filters.pathFilters],
    targetHost: localHost,
    targetPort: first?.localPort ?? 0,
    portIdentifier: first?.identifier ?? '',
    podPorts: others.map(podPort),
    serviceName: service,
    containerName: container,
    localPorts: toPod.map(portText),
    wiretap: mode === 'wiretap',
    // A replaced container is the target itself; a port is what it happens to have.
    replace: mode === 'replace',
    noDefaultPort: mode === 'replace',
    dialTimeout: dialTimeoutNs,
    roundtripLatency: roundtripLatencyNs,
  });
}

/** The specification with what the manager has found: what it means does not depend on the cluster's next change. */
export function completeSpec(spec: wire.InterceptSpec, prepared: wire.PreparedIntercept): wire.InterceptSpec {
  const { serviceUid, serviceName, servicePortName, servicePort, workloadKind, protocol } = prepared;
  // Whose environment it is may be said; the port's container is what is meant otherwise.
  const containerName = spec.containerName || prepared.containerName;
  const wasAll = spec.portIdentifier === allPorts;
  return {
    ...spec,
    // So that a workload with two containers can have both replaced, and everybody sees which.
    name: spec.replace && !spec.name.includes('/') && containerName ? `${spec.name}/${containerName}` : spec.name,
    ...{ serviceUid, serviceName, servicePortName, servicePort, workloadKind, protocol, containerName },
    containerPort: prepared.containerPort,
    targetPort: spec.targetPort || prepared.containerPort,
    portIdentifier: identifierOf(spec, prepared),
    podPorts: wasAll || prepared.podPorts.length > 0 ? prepared.podPorts : spec.podPorts,
  };
}

function identifierOf({ portIdentifier }: wire.InterceptSpec, prepared: wire.PreparedIntercept): string {
  const { servicePortName, servicePort, containerPort, protocol } = prepared;
  const found = servicePortName || String(servicePort || containerPort || '');
  return found && protocol ? `${found}/${protocol}` : found || portIdentifier;
}

/** `http:3000`, `8081:8081/UDP`: the protocol goes last. A number that comes to the same number needs no second one. */
function podPort({ identifier, localPort, protocol }: PlannedPort): string {
  const [remote = ''] = identifier.split('/');
  return `${remote}${localPort ? `:${localPort}` : ''}${protocol === 'UDP' ? '/UDP' : ''}`;
}

/** Undefined for what is not of that form. */
export function readPodPort(text: string): Omit<AttachedPort, 'servicePort'> | undefined {
  const match = /^([\w-]+)(?::(\d{1,5}))?(?:\/(TCP|UDP))?$/i.exec(text);
  if (!match) {
    return undefined;
  }
  const [, remote = '', local, protocol] = match;
  const number = /^\d+$/.test(remote) ? Number(remote) : 0;
  return { remote, containerPort: number, localPort: Number(local ?? number), protocol: protocolOf(protocol) };
}

/** The ports of this machine that an intercept may come to. */
export function portsOf(spec: wire.InterceptSpec): readonly AttachedPort[] {
  const { portIdentifier, servicePort, servicePortName, containerPort, targetPort, protocol, podPorts } = spec;
  const further = podPorts.map(readPodPort).filter((each) => each !== undefined);
  if (targetPort === 0 && containerPort === 0) {
    return further.map((each) => ({ ...each, servicePort: 0 }));
  }
  const remote = portIdentifier.split('/')[0] || servicePortName || String(servicePort || containerPort);
  const first = { remote, servicePort, containerPort, localPort: targetPort, protocol: protocolOf(protocol) };
  return [first, ...further.map((each) => ({ ...each, servicePort: 0 }))];
}

const protocolOf = (text: string | undefined): PortProtocol => (text?.toUpperCase() === 'UDP' ? 'UDP' : 'TCP');

/** The ports of the pod that 127.0.0.1 leads to. */
export const toPodOf = ({ localPorts }: wire.InterceptSpec): PodPort[] =>
  localPorts.map(readPodPort).flatMap((each) => (each ? [{ port: each.localPort, protocol: each.protocol }] : []));

const modeOf = ({ wiretap, replace, noDefaultPort }: wire.InterceptSpec): AttachMode =>
  wiretap ? 'wiretap' : replace || noDefaultPort ? 'replace' : 'intercept';

/** An intercept of the manager's as it is shown. */
export function toAttachment({ spec, disposition, message }: wire.InterceptInfo): Attachment | undefined {
  if (!spec) {
    return undefined;
  }
  const { [methodFilter]: methods = '', ...headers } = spec.headerFilters;
  const listed = parseMethods(methods);
  return {
    name: spec.name,
    mode: modeOf(spec),
    workload: spec.agent,
    kind: spec.workloadKind,
    namespace: spec.namespace,
    container: spec.containerName,
    localHost: spec.targetHost,
    ports: portsOf(spec),
    filters: { headers, paths: spec.pathFilters, methods: methods ? (listed ?? [methods]) : [] },
    toPod: toPodOf(spec),
    state:
      disposition === ACTIVE ? 'active' : disposition === WAITING || disposition === NO_AGENT ? 'waiting' : 'error',
    ...(message ? { message } : {}),
  };
}
