import { formatIp, formatSubnet, type IpBytes, type Subnet, subnetContains } from '../../base/index.ts';
import type { DesiredNetwork, wire } from '../../protocol/index.ts';
import type { CheckedChoice } from './choice.ts';
import { readSubnets } from './translation.ts';

export interface NetworkOptions {
  /** The same for every window of one cluster. */
  readonly cluster: string;
  readonly info: wire.ClusterInfo;
  readonly namespace: string;
  readonly mappedNamespaces: readonly string[];
  /** Addresses of the API server: they keep their present route. */
  readonly apiServer: readonly IpBytes[];
  readonly choice: CheckedChoice;
}

const defaultExcludes = ['.com', '.io', '.net', '.org', '.ru'];
const dnsTimeoutMs = 4_000;

/** What the daemon should make of a cluster. Pure. */
export function desiredNetwork({
  cluster,
  info,
  namespace,
  mappedNamespaces,
  apiServer,
  choice,
}: NetworkOptions): DesiredNetwork {
  const subnets = uniqueSubnets([
    ...serviceSubnets(info),
    ...info.podSubnets.map(toSubnet),
    ...(info.routing?.alsoProxySubnets ?? []).map(toSubnet),
    ...readSubnets(choice.alsoProxy),
  ]);
  const never = [
    ...apiServer
      .filter((ip) => subnets.some((subnet) => subnetContains(subnet, ip)))
      .map((ip) => `${formatIp(ip)}/${ip.length * 8}`),
    ...(info.routing?.neverProxySubnets ?? []).map(toSubnet).filter(isSubnet).map(formatSubnet),
    ...choice.neverProxy,
  ];
  // A person's word counts more than the cluster's, and that more than ours.
  const excludeSuffixes = [choice.excludeSuffixes, info.dns?.excludeSuffixes ?? [], defaultExcludes].find(
    ({ length }) => length > 0,
  );
  return {
    cluster,
    subnets: subnets.map(formatSubnet),
    neverProxy: never,
    allowConflicting: [
      ...(info.routing?.allowConflictingSubnets ?? []).map(toSubnet).filter(isSubnet).map(formatSubnet),
      ...choice.allowConflicting,
    ],
    virtualSubnets: choice.virtualSubnets,
    dns: {
      clusterDomain: (info.dns?.clusterDomain || info.clusterDomain || 'cluster.local').replace(/\.$/, ''),
      namespace,
      routedDomains: [...new Set([...mappedNamespaces, namespace, 'svc'])],
      includeSuffixes: [...new Set([...(info.dns?.includeSuffixes ?? []), ...choice.includeSuffixes])],
      excludeSuffixes: [...(excludeSuffixes ?? [])],
      excludes: choice.excludes,
      mappings: choice.mappings,
      timeoutMs: choice.timeoutMs ?? dnsTimeoutMs,
    },
  };
}

/**
 * Field 1 changed its meaning between releases: 5 or 17 bytes are a prefix, 4 or 16 an old peer's DNS address. The
 * deprecated single subnet stands in when there is no prefix.
 */
function serviceSubnets(info: wire.ClusterInfo): (Subnet | undefined)[] {
  const prefixes = info.serviceCidrs
    .filter((bytes) => bytes.length === 5 || bytes.length === 17)
    .map((bytes) => toSubnet({ ip: bytes.slice(0, -1), mask: bytes[bytes.length - 1] ?? 0 }));
  return prefixes.length > 0 || !info.serviceSubnet ? prefixes : [toSubnet(info.serviceSubnet)];
}

function toSubnet({ ip, mask }: { readonly ip: Uint8Array; readonly mask: number }): Subnet | undefined {
  const isValid = (ip.length === 4 || ip.length === 16) && mask > 0 && mask <= ip.length * 8;
  return isValid ? { address: Uint8Array.from(ip), prefixLength: mask } : undefined;
}

const isSubnet = (subnet: Subnet | undefined): subnet is Subnet => subnet !== undefined;

/** Each once, and none that another covers. */
function uniqueSubnets(subnets: readonly (Subnet | undefined)[]): Subnet[] {
  const all = [...new Map(subnets.filter(isSubnet).map((subnet) => [formatSubnet(subnet), subnet])).values()];
  return all.filter(
    (subnet) =>
      !all.some(
        (other) =>
          other !== subnet && other.prefixLength < subnet.prefixLength && subnetContains(other, subnet.address),
      ),
  );
}
