import { type FilterFields, filterFault, hasFilters, methodFilter, serializeMethods } from '../../protocol/index.ts';
import type {
  AttachMode,
  AttachRequest,
  MountRequest,
  PodPort,
  PortMapping,
  PortProtocol,
  RequestFilters,
} from '../contract.ts';
import { badAttachRequest } from '../errors.ts';

export interface PlannedPort {
  /** As the wire's port identifier: `http`, `8080/UDP`, `all`, or empty. */
  readonly identifier: string;
  /** 0: the container's number. */
  readonly localPort: number;
  readonly protocol: PortProtocol;
}

/** A request that was checked: everything is there, and nothing contradicts. */
export interface AttachPlan {
  readonly mode: AttachMode;
  readonly workload: string;
  /** As Kubernetes spells it; empty: any. */
  readonly kind: string;
  readonly namespace: string;
  /** What was asked for, or a proposal. */
  readonly name: string;
  readonly isNameGiven: boolean;
  readonly service: string;
  readonly container: string;
  /** At least one, but for an ingest. */
  readonly ports: readonly [PlannedPort, ...PlannedPort[]] | readonly [];
  readonly filters: FilterFields;
  readonly toPod: readonly PodPort[];
  readonly mount: MountRequest | undefined;
}

/** A replaced container stands down with all its ports. */
export const allPorts = 'all';
const maxPorts = 64;
const maxFilters = 64;
const kindNames: Record<string, string> = {
  deployment: 'Deployment',
  replicaset: 'ReplicaSet',
  statefulset: 'StatefulSet',
  rollout: 'Rollout',
};
/** RFC 1123 §2.1, as Kubernetes has it. */
const dnsName = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
/** RFC 6335 §5.1, or a number. */
const portName = /^(?:[a-z0-9](?:-?[a-z0-9]){0,62}|\d{1,5})$/i;
const method = /^[A-Z][A-Z-]{0,31}$/;

/** Errors: `connector.bad-attach-request`, which says what does not fit. */
export function planAttach(request: AttachRequest, connected: string): AttachPlan {
  const { mode = 'intercept', service = '', container = '' } = request;
  const { workload, kind } = readWorkload(request.workload);
  const namespace = request.namespace || connected;
  const filters = planFilters(request.filters);
  const ports = (request.ports ?? []).map((each) => planPort(each));
  const toPod = request.toPod ?? [];
  for (const [what, name] of [
    ['namespace', namespace],
    ['service', service],
    ['container', container],
  ] as const) {
    if (name && !dnsName.test(name)) {
      throw badAttachRequest(`${quoted(name)} is no name of a ${what}`);
    }
  }
  if (request.name !== undefined && !/^[\w./-]{1,253}$/.test(request.name)) {
    throw badAttachRequest(`${quoted(request.name)} is no name of an attachment`);
  }
  if (hasFilters(filters)) {
    checkFiltered(mode, ports);
  }
  if (mode === 'ingest' && (ports.length > 0 || service)) {
    throw badAttachRequest('an ingest brings no requests here: leave the ports out, or choose another mode');
  }
  if (mode === 'replace' && service) {
    throw badAttachRequest('a replaced container is named by --container, and its ports are those of the container');
  }
  checkPorts(ports, toPod);
  const [first = { identifier: mode === 'replace' ? allPorts : '', localPort: 0, protocol: 'TCP' }, ...others] = ports;
  return {
    mode,
    workload,
    kind,
    namespace,
    name: request.name ?? (namespace === connected ? workload : `${workload}-${namespace}`),
    isNameGiven: request.name !== undefined,
    service,
    container,
    ports: mode === 'ingest' ? [] : [first, ...others],
    filters,
    toPod,
    // Whoever only listens, or only looks, writes nothing.
    mount: request.mount && {
      ...request.mount,
      isReadOnly: request.mount.isReadOnly || mode === 'wiretap' || mode === 'ingest',
    },
  };
}

function readWorkload(text: string): { workload: string; kind: string } {
  const parts = text.split('/');
  const workload = parts.at(-1) ?? '';
  const kind = parts.length === 2 ? kindNames[(parts[0] ?? '').toLowerCase()] : '';
  if (parts.length > 2 || kind === undefined || !dnsName.test(workload)) {
    throw badAttachRequest(`${quoted(text)} is no workload: write its name, or kind/name as in deployment/web`);
  }
  return { workload, kind };
}

function planPort({ remote = '', local = 0, protocol = 'TCP' }: PortMapping): PlannedPort {
  if (!isPort(local) && local !== 0) {
    throw badAttachRequest(`${local} is no port of this machine`);
  }
  if (remote && (!portName.test(remote) || (/^\d+$/.test(remote) && !isPort(Number(remote))))) {
    throw badAttachRequest(`${quoted(remote)} is neither the name nor the number of a port`);
  }
  if (!remote && protocol === 'UDP') {
    throw badAttachRequest('name the UDP port that is meant');
  }
  return { identifier: protocol === 'UDP' ? `${remote}/UDP` : remote, localPort: local, protocol };
}

function planFilters({ headers = {}, paths = [], methods = [] }: RequestFilters = {}): FilterFields {
  const unknown = methods.find((each) => !method.test(each));
  if (unknown !== undefined) {
    throw badAttachRequest(`${quoted(unknown)} is no method: write it as HTTP does, in capitals`);
  }
  const fields = {
    headerFilters: { ...headers, ...(methods.length > 0 ? { [methodFilter]: serializeMethods(methods) } : {}) },
    pathFilters: paths,
  };
  if (Object.keys(fields.headerFilters).length > maxFilters || paths.length > maxFilters) {
    throw badAttachRequest(`more than ${maxFilters} filters are too many`);
  }
  const fault = filterFault(fields);
  if (fault) {
    throw badAttachRequest(fault);
  }
  return fields;
}

function checkFiltered(mode: AttachMode, ports: readonly PlannedPort[]): void {
  if (mode === 'replace' || mode === 'ingest') {
    throw badAttachRequest(
      mode === 'replace'
        ? 'a replaced container answers nothing, so that no filter can leave it requests'
        : 'an ingest brings no requests here: leave the filters out',
    );
  }
  if (ports.some(({ protocol }) => protocol === 'UDP')) {
    throw badAttachRequest('filters look at HTTP requests, and a UDP port has none');
  }
}

function checkPorts(ports: readonly PlannedPort[], toPod: readonly PodPort[]): void {
  if (ports.length > maxPorts || toPod.length > maxPorts) {
    throw badAttachRequest(`more than ${maxPorts} ports are too many`);
  }
  if (ports.length > 1 && ports.some(({ identifier }) => identifier === '' || identifier === allPorts)) {
    throw badAttachRequest('with several ports, each needs its name or number');
  }
  const unclear = ports.slice(1).find(({ identifier, localPort }) => localPort === 0 && !/^\d/.test(identifier));
  if (unclear) {
    throw badAttachRequest(`say which port of this machine ${unclear.identifier} comes to`);
  }
  const remotes = ports.map(({ identifier }) => identifier);
  const twice = remotes.find((each, at) => remotes.indexOf(each) !== at);
  if (twice !== undefined) {
    throw badAttachRequest(`port ${twice} is named twice`);
  }
  const outward = toPod.map(portText);
  for (const [at, { port }] of toPod.entries()) {
    const text = outward[at] ?? '';
    if (!isPort(port)) {
      throw badAttachRequest(`${port} is no port of a pod`);
    }
    if (outward.indexOf(text) !== at) {
      throw badAttachRequest(`the port ${text} of the pod is named twice`);
    }
    if (ports.some(({ localPort, protocol }) => portText({ port: localPort, protocol }) === text)) {
      throw badAttachRequest(`port ${text} of this machine cannot lead to the pod: your program listens there`);
    }
  }
}

/** As the wire's `local_ports`: the protocol is named when it is not TCP. */
export const portText = ({ port, protocol }: PodPort): string => (protocol === 'UDP' ? `${port}/UDP` : String(port));

const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port < 65_536;
const quoted = (text: string): string => `“${text.slice(0, 80)}”`;
