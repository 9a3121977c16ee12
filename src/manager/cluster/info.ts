import { create } from '@bufbuild/protobuf';
import { concatBytes, formatSubnet, parseIp, parseSubnet, type Subnet, subnetContains } from '../../base/index.ts';
import { type Kube, kinds } from '../../kube/index.ts';
import { type ClientConfig, wire } from '../../protocol/index.ts';
import type { ClusterView } from './cluster.ts';

export interface InfoOptions {
  readonly view: ClusterView;
  readonly serviceSubnets: readonly Subnet[];
  readonly clusterDomain: string;
  readonly podIp: string;
  readonly managerNamespace: string;
  readonly apiPort: number;
  /** What the owner wishes of every client. */
  readonly wishes: ClientConfig;
}

/** What a client needs to route and to resolve: subnets, the cluster's domain, where manager and injector are. */
export function clusterInfo(options: InfoOptions): wire.ClusterInfo {
  const { view, serviceSubnets, clusterDomain, podIp, managerNamespace } = options;
  const injector = view.services.items.get(`${managerNamespace}/agent-injector`);
  const injectorIp = parseIp(injector?.spec?.clusterIP ?? '');
  const first = serviceSubnets[0];
  const { routing, dns } = options.wishes;
  return create(wire.ClusterInfoSchema, {
    serviceCidrs: serviceSubnets.map(({ address, prefixLength }) =>
      concatBytes([address, Uint8Array.of(prefixLength)]),
    ),
    ...(first ? { serviceSubnet: toIpNet(first) } : {}),
    podSubnets: podSubnets(view, podIp).map(toIpNet),
    clusterDomain: `${clusterDomain}.`,
    managerPodIp: parseIp(podIp) ?? new Uint8Array(0),
    managerPodPort: options.apiPort,
    ...(injectorIp ? { injectorSvcIp: injectorIp, injectorSvcPort: injector?.spec?.ports?.[0]?.port ?? 0 } : {}),
    injectorSvcHost: `agent-injector.${managerNamespace}`,
    routing: {
      alsoProxySubnets: toIpNets(routing?.alsoProxySubnets),
      neverProxySubnets: toIpNets(routing?.neverProxySubnets),
      allowConflictingSubnets: toIpNets(routing?.allowConflictingSubnets),
    },
    dns: {
      includeSuffixes: dns?.includeSuffixes ?? [],
      excludeSuffixes: dns?.excludeSuffixes ?? ['.com', '.io', '.net', '.org', '.ru'],
      clusterDomain: `${clusterDomain}.`,
    },
  });
}

/**
 * The nodes' pod ranges, when they say so truthfully: the manager's own address must be among them. Otherwise (a
 * cloud network hands out addresses of its own) the networks that hold the pods seen.
 */
function podSubnets(view: ClusterView, podIp: string): Subnet[] {
  const own = parseIp(podIp);
  const declared = [...view.nodes.items.values()]
    .flatMap((node) => node.spec?.podCIDRs ?? (node.spec?.podCIDR ? [node.spec.podCIDR] : []))
    .map(parseSubnet)
    .filter((subnet) => subnet !== undefined);
  if (own && declared.some((subnet) => subnetContains(subnet, own))) {
    return unique(declared);
  }
  const seen = [...view.pods.items.values()]
    .filter((pod) => !pod.spec?.hostNetwork)
    .flatMap((pod) => pod.status?.podIPs?.map(({ ip }) => ip) ?? [])
    .map((ip) => parseSubnet(`${ip}/${ip.includes(':') ? 64 : 24}`))
    .filter((subnet) => subnet !== undefined);
  return unique(seen);
}

function unique(subnets: readonly Subnet[]): Subnet[] {
  return [...new Map(subnets.map((subnet) => [formatSubnet(subnet), subnet])).values()];
}

function toIpNet({ address, prefixLength }: Subnet): { ip: Uint8Array; mask: number } {
  return { ip: address, mask: prefixLength };
}

const toIpNets = (texts: readonly string[] = []): { ip: Uint8Array; mask: number }[] =>
  texts
    .map(parseSubnet)
    .filter((subnet) => subnet !== undefined)
    .map(toIpNet);

interface ServiceCidr {
  readonly spec?: { readonly cidrs?: readonly string[] };
}

/** The API server's service ranges; where it has no such objects (before 1.33), the network of a known service. */
export async function findServiceSubnets(kube: Kube, view: ClusterView, ownNamespace = ''): Promise<Subnet[]> {
  const listed = await kube.list<ServiceCidr>(kinds.serviceCidr).catch(() => []);
  const declared = listed.flatMap((each) => each.spec?.cidrs ?? []);
  if (declared.length > 0) {
    return declared.map(parseSubnet).filter((subnet) => subnet !== undefined);
  }
  // Where only some namespaces may be seen, our own service has to do.
  const known = ['default/kubernetes', `${ownNamespace}/agent-injector`];
  const address = known.map((key) => view.services.items.get(key)?.spec?.clusterIP).find(Boolean);
  const guess = address ? parseSubnet(`${address}/${address.includes(':') ? 64 : 16}`) : undefined;
  return guess ? [guess] : [];
}

/** From the first search entries of a pod's resolv.conf: `<ns>.svc.<domain> svc.<domain> <domain>`. */
export function clusterDomainOf(resolvConf: string): string {
  const search = /^search\s+(.*)$/m.exec(resolvConf)?.[1]?.split(/\s+/) ?? [];
  const service = search.find((entry) => entry.startsWith('svc.'));
  return service ? service.slice('svc.'.length).replace(/\.$/, '') : 'cluster.local';
}
