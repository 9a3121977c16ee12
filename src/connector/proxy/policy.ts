import { type IpBytes, parseIp, parseSubnet, type Subnet, subnetContains } from '../../base/index.ts';
import type { DesiredDns, DesiredNetwork } from '../../protocol/index.ts';

/** Where a name is asked for. */
export type NameVerdict =
  /** In the cluster, as `name` with its trailing dot. `only`: this machine's resolver is not asked afterwards. */
  | { readonly kind: 'cluster'; readonly name: string; readonly only: boolean }
  /** Another name or address stands for it. */
  | { readonly kind: 'alias'; readonly target: string | IpBytes }
  /** By this machine's own resolver. */
  | { readonly kind: 'here' };

/**
 * The daemon's order, so that a name means the same on every rung: exact exclusions, mappings, included suffixes
 * (against excluded ones, the longer wins), the cluster's domain, mapped namespaces and `svc`, names of one label, the
 * rest here. Pure.
 */
export function decideName(host: string, dns: DesiredDns): NameVerdict {
  const plain = clean(host);
  const cluster = (only: boolean): NameVerdict => ({ kind: 'cluster', name: `${plain}.`, only });
  if (plain === '' || isBelow(plain, 'localhost') || dns.excludes.some((each) => isExactly(plain, each, dns))) {
    return { kind: 'here' };
  }
  const mapping = dns.mappings.find(({ name }) => clean(name) === plain);
  if (mapping) {
    return { kind: 'alias', target: parseIp(mapping.aliasFor) ?? clean(mapping.aliasFor) };
  }
  const included = longest(dns.includeSuffixes, plain);
  if (included > 0 && included >= longest(dns.excludeSuffixes, plain)) {
    return cluster(false);
  }
  if (isBelow(plain, clean(dns.clusterDomain))) {
    return cluster(true);
  }
  return (isRouted(plain, dns) ?? !plain.includes('.')) ? cluster(false) : { kind: 'here' };
}

/** Which addresses are the cluster's: its subnets, without what keeps its present route. */
export function createAddressPolicy({ subnets, neverProxy }: DesiredNetwork): (ip: IpBytes) => boolean {
  const inside = toSubnets(subnets);
  const outside = toSubnets(neverProxy);
  return (ip) =>
    inside.some((subnet) => subnetContains(subnet, ip)) && !outside.some((subnet) => subnetContains(subnet, ip));
}

const toSubnets = (texts: readonly string[]): Subnet[] =>
  texts.map(parseSubnet).filter((subnet): subnet is Subnet => subnet !== undefined);

const clean = (name: string): string => name.toLowerCase().replace(/^\./, '').replace(/\.$/, '');

/** In a mapped namespace or `svc`; undefined when in none of them. */
function isRouted(plain: string, dns: DesiredDns): boolean | undefined {
  const [domain] = dns.routedDomains
    .map(clean)
    .filter((each) => plain !== each && isBelow(plain, each))
    .sort((a, b) => b.length - a.length);
  if (domain === undefined) {
    return undefined;
  }
  // `example.com.service-a-ns` is a search path's attempt at a name that is not ours.
  const rest = plain.slice(0, -domain.length - 1);
  return !dns.excludeSuffixes.map(clean).some((suffix) => suffix !== rest && isBelow(rest, suffix));
}

function isExactly(plain: string, excluded: string, dns: DesiredDns): boolean {
  return plain === clean(excluded) || plain === `${clean(excluded)}.${clean(dns.namespace)}`;
}

function isBelow(name: string, domain: string): boolean {
  return name === domain || name.endsWith(`.${domain}`);
}

function longest(suffixes: readonly string[], name: string): number {
  return Math.max(
    0,
    ...suffixes
      .map(clean)
      .filter((suffix) => isBelow(name, suffix))
      .map(({ length }) => length),
  );
}
