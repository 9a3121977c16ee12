import { parsePathFilter } from '../../protocol/index.ts';
import type { Attachment, Connector, LeftOutReason, RequestFilters, VolumeView, WorkloadView } from '../contract.ts';
import { proxyLacks } from '../proxy/lacks.ts';

const stateWords = {
  'no-agent': 'ready to engage (traffic-agent not yet installed)',
  installed: 'ready to engage',
  intercepted: 'intercepted',
} as const;

/** One line: `web: intercept of http → 127.0.0.1:3000, requests with header x-user: ann`. */
export function describeAttachment(attachment: Attachment): string {
  const { name, mode, container, localHost, ports, filters, toPod, files, state, message } = attachment;
  const mapped = ports.map(
    ({ remote, localPort, protocol }) => `${remote}${protocol === 'UDP' ? '/UDP' : ''} → ${localHost}:${localPort}`,
  );
  const what = mapped.length > 0 ? `${mode} of ${mapped.join(', ')}` : `${mode} of container ${container}`;
  const wanted = describeFilters(filters);
  return [
    `${name}: ${what}`,
    ...(wanted ? [`requests with ${wanted}`] : []),
    ...(toPod.length > 0 ? [`to the pod: ${toPod.map(({ port }) => port).join(', ')}`] : []),
    ...(files ? [`volumes in ${files.root} (${files.volumes.map(describeVolume).join('; ')})`] : []),
    ...(state === 'active' ? [] : [message ? `${state}: ${message}` : state]),
  ].join(', ');
}

const wayWords = {
  proxy: 'the API server’s proxy',
  'port-forward':
    'a port-forward, half as fast as the API server’s proxy (which takes a traffic-manager of Nearfield, the right to get pods/proxy, and a network that lets the API server reach pods)',
  sealed: 'a port-forward, because a token is shown',
} as const;

const leftOutWords: Readonly<Record<LeftOutReason, string>> = {
  unreadable: 'the traffic-agent may not read it',
  'too-large': 'too large for a copy',
  'too-many': 'too many files for a copy',
  'too-deep': 'too deep for a copy',
  special: 'no file or folder',
  'bad-name': 'a name that is none',
  'linked-folder': 'a link to a folder',
};
const volumeWords = { copy: 'copy', mount: 'mounted', local: 'local', waiting: 'not here yet' } as const;
const leftOutInWords = 3;

/** `/etc/app: copy, without key.pem (the traffic-agent may not read it)`. */
export function describeVolume({ path, kind, isReadOnly, leftOut, message }: VolumeView): string {
  const missing = leftOut.slice(0, leftOutInWords).map((each) => `${each.path || path} (${leftOutWords[each.reason]})`);
  const more = leftOut.length - missing.length;
  return [
    `${path}: ${volumeWords[kind]}${kind === 'mount' && isReadOnly ? ' read-only' : ''}`,
    ...(missing.length > 0 ? [`without ${missing.join(', ')}${more > 0 ? ` and ${more} more` : ''}`] : []),
    ...(message ? [message] : []),
  ].join(', ');
}

/** Empty when all requests are meant. */
export function describeFilters({ headers = {}, paths = [], methods = [] }: RequestFilters): string {
  return [
    ...(methods.length > 0 ? [`method ${methods.join(' or ')}`] : []),
    ...Object.entries(headers).map(([name, value]) => `header ${name}: ${value}`),
    ...(paths.length > 0 ? [`path ${paths.map(describePath).join(' or ')}`] : []),
  ].join(', ');
}

function describePath(text: string): string {
  const { kind, value } = parsePathFilter(text);
  return kind === 'equal' ? value : `${kind} ${value}`;
}

export function describeWorkload(workload: WorkloadView, attachments: readonly Attachment[]): string {
  const { kind, name, namespace, state, interceptedBy } = workload;
  const by = interceptedBy.length > 0 ? ` by ${interceptedBy.join(', ')}` : '';
  return [
    `${kind.toLowerCase()} ${name}.${namespace}: ${stateWords[state]}${by}`,
    ...attachmentsOf(workload, attachments).map((each) => `  ${describeAttachment(each)}`),
  ].join('\n');
}

export const attachmentsOf = (
  { name, namespace }: Pick<WorkloadView, 'name' | 'namespace'>,
  attachments: readonly Attachment[],
): readonly Attachment[] => attachments.filter((each) => each.workload === name && each.namespace === namespace);

/** The whole of a snapshot, for a terminal. */
export function describe(snapshot: Connector['snapshot']): string {
  const { connection, target, daemon, proxy, manager, attachments } = snapshot;
  const lines = [`Status             : ${connection.state}`];
  if (target) {
    lines.push(
      `Kubernetes server  : ${target.server}`,
      `Kubernetes context : ${target.context}`,
      `Namespace          : ${target.namespace}`,
    );
    lines.push(
      `Manager namespace  : ${target.managerNamespace}`,
      `Mapped namespaces  : [${target.mappedNamespaces.join(' ')}]`,
    );
  }
  lines.push(`Daemon             : ${daemon.state}${daemon.version ? ` ${daemon.version}` : ''}`);
  if (daemon.dns) {
    lines.push(
      `DNS                : ${daemon.dns.localAddress}, excluded [${daemon.dns.excludeSuffixes.join(' ')}], ${daemon.dns.timeoutMs / 1000} s`,
    );
    lines.push(`Subnets            : ${daemon.subnets.join(', ')}`);
    lines.push(
      ...(daemon.translated ?? []).map((each) => `Translated         : ${each.subnet}, because of ${each.route}`),
    );
  }
  if (proxy) {
    const password = proxy.needsPassword ? ', with the password of nearfield proxy-env' : '';
    lines.push(
      `Proxies            : SOCKS 5 ${proxy.socks}, HTTP ${proxy.http}${password}`,
      ...proxy.forwards.map(({ local, target }) => `Forward            : ${local} → ${target}`),
      ...proxyLacks.map((sentence) => `Without root       : ${sentence}`),
    );
  }
  if (manager) {
    lines.push(`Traffic Manager    : ${manager.name} ${manager.version}`);
    lines.push(...(manager.way ? [`Way to the cluster : ${wayWords[manager.way]}`] : []));
  }
  lines.push(
    ...(snapshot.settings ?? []).map(
      ({ name, value, from }) =>
        `Setting            : ${name} = ${value} (${from === 'cluster' ? 'from the owner of the cluster' : 'yours'})`,
    ),
  );
  lines.push(...attachments.map((each) => `Attachment         : ${describeAttachment(each)}`));
  lines.push(
    ...snapshot.health.map(
      ({ severity, sentence, args = [] }) =>
        `${(severity === 'error' ? 'Error' : 'Warning').padEnd(19)}: ${sentence.replace(/\{(\d+)\}/g, (_, index: string) => args[Number(index)] ?? '')}`,
    ),
  );
  return lines.join('\n');
}
