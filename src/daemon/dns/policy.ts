import { type IpBytes, parseIp, reverseAddress, type Subnet, subnetContains } from '../../base/index.ts';
import type { DesiredDns } from '../../protocol/index.ts';

/** Where a name goes. Names are lower case with a trailing dot. */
export type DnsVerdict =
  /** To the cluster, as `name`. `only`: never upstream, whatever the cluster says. */
  | { readonly kind: 'cluster'; readonly name: string; readonly only: boolean }
  | { readonly kind: 'mapped'; readonly target: string | IpBytes }
  | { readonly kind: 'upstream' }
  | { readonly kind: 'refuse' };

export type DnsPolicy = (name: string) => DnsVerdict;

/** The end of our search path: a name below it proves that it came from a program of this machine, through us. */
export const searchDevice = 'tel2-search';
/** Answered with a loopback address, always: whoever gets that knows that the machine's resolver asks us. */
export const sanityName = `jhfweoitnkgyeta.${searchDevice}.`;
/** Asked in the cluster only; when it comes to us, the cluster asks this machine. */
export const recursionCheckName = 'tel2-recursion-check.kube-system.';

/** Names that systems ask for by themselves in every domain they hear of, and that no cluster has. */
const refusedPrefixes = [
  'wpad.',
  '_grpc_config.',
  'lb._dns-sd.',
  'db._dns-sd.',
  'b._dns-sd.',
  'win11-vb.',
  'dc.msdcs.',
  '_ldap._tcp.dc._msdcs.',
];

const upstream = { kind: 'upstream' } as const;
const refuse = { kind: 'refuse' } as const;

/**
 * Order: exact exclusions, mappings, included suffixes (against excluded ones, the longer wins), the cluster's domain,
 * mapped namespaces and `svc`, names of one label, reverse names of the cluster's subnets, the rest upstream. A name
 * below the search device is decided without it, and never goes upstream.
 */
export function createPolicy(dns: DesiredDns, subnets: readonly Subnet[] = []): DnsPolicy {
  const clusterDomain = clean(dns.clusterDomain);
  const namespace = clean(dns.namespace);
  const excludes = new Set(dns.excludes.map(clean).flatMap((name) => [name, `${name}.${namespace}`]));
  const mappings = new Map(dns.mappings.map(({ name, aliasFor }) => [clean(name), toTarget(aliasFor)]));
  const routed = new Set(dns.routedDomains.map(clean));
  const included = new Set(dns.includeSuffixes.map(clean));
  const excluded = new Set(dns.excludeSuffixes.map(clean));

  const decide = (plain: string): DnsVerdict => {
    const name = `${plain}.`;
    if (plain === '' || isBelow(plain, 'localhost') || excludes.has(plain)) {
      return upstream;
    }
    const target = mappings.get(plain);
    if (target !== undefined) {
      return { kind: 'mapped', target };
    }
    const claimed = isClaimed(plain);
    if (claimed && refusedPrefixes.some((prefix) => name.startsWith(prefix))) {
      return refuse;
    }
    return claimed ? { kind: 'cluster', name, only: claimed === 'only' } : upstream;
  };

  const isClaimed = (plain: string): 'only' | boolean => {
    const isExcluded = longestSuffix(plain, excluded);
    const isIncluded = longestSuffix(plain, included);
    if (isIncluded && isIncluded.length >= (isExcluded?.length ?? 0)) {
      return true;
    }
    if (isBelow(plain, clusterDomain)) {
      return 'only';
    }
    const domain = longestSuffix(plain, routed);
    if (domain && domain.length < plain.length) {
      // `example.com.service-a-ns` is a search path's attempt at a name that is not ours.
      const rest = plain.slice(0, -domain.length - 1);
      const suffix = longestSuffix(rest, excluded);
      return suffix === undefined || suffix === rest;
    }
    if (!plain.includes('.')) {
      return true;
    }
    const address = reverseAddress(plain);
    return address !== undefined && subnets.some((subnet) => subnetContains(subnet, address)) ? 'only' : false;
  };

  return (name) => {
    const plain = name.slice(0, -1);
    if (plain.endsWith(`.${searchDevice}`)) {
      const found = decide(plain.slice(0, -searchDevice.length - 1));
      return found.kind === 'upstream' ? refuse : found.kind === 'cluster' ? { ...found, only: true } : found;
    }
    // A search domain of the machine was put behind ours.
    return plain === searchDevice || plain.includes(`.${searchDevice}.`) ? refuse : decide(plain);
  };
}

function toTarget(alias: string): string | IpBytes {
  return parseIp(alias) ?? `${clean(alias)}.`;
}

const clean = (domain: string): string => domain.toLowerCase().replace(/^\./, '').replace(/\.$/, '');

function isBelow(name: string, domain: string): boolean {
  return name === domain || name.endsWith(`.${domain}`);
}

/** The longest of the domains that the name lies in. One look per label, however many domains there are. */
function longestSuffix(name: string, domains: ReadonlySet<string>): string | undefined {
  let suffix = name;
  while (!domains.has(suffix)) {
    const next = suffix.indexOf('.');
    if (next < 0) {
      return undefined;
    }
    suffix = suffix.slice(next + 1);
  }
  return suffix;
}
