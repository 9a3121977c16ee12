import type { DesiredDns } from '../../protocol/index.ts';

export type DnsVerdict =
  | { readonly kind: 'cluster'; readonly name: string }
  | { readonly kind: 'upstream' }
  | { readonly kind: 'refuse' };

/** Proves that this machine's resolver asks us. */
export const searchDevice = 'tel2-search';

/** Names that desktop systems ask for by themselves, and that no cluster has. */
const refusedPrefixes = [
  'wpad.',
  '_grpc_config.',
  'lb._dns-sd.',
  'db._dns-sd.',
  'b._dns-sd.',
  'dc.msdcs.',
  '_ldap._tcp.dc._msdcs.',
];

/**
 * Where a question goes. Order: exact exclusions, names of one label, the cluster's domain, mapped namespaces and
 * `svc`, excluded suffixes against included ones, the rest upstream. Names are lower case with a trailing dot.
 */
export function decideName(question: string, dns: DesiredDns): DnsVerdict {
  const name = question.endsWith(`.${searchDevice}.`) ? question.slice(0, -searchDevice.length - 1) : question;
  const plain = name.slice(0, -1);
  const upstream = { kind: 'upstream' } as const;
  const cluster = { kind: 'cluster', name } as const;
  if (plain === '' || plain === 'localhost' || plain.endsWith('.localhost')) {
    return upstream;
  }
  if (refusedPrefixes.some((prefix) => name.startsWith(prefix))) {
    return { kind: 'refuse' };
  }
  if (dns.excludes.some((excluded) => excluded.replace(/\.$/, '') === plain)) {
    return upstream;
  }
  if (!plain.includes('.')) {
    return cluster;
  }
  if (isBelow(plain, dns.clusterDomain)) {
    return cluster;
  }
  if (dns.routedDomains.some((domain) => isBelow(plain, domain))) {
    return cluster;
  }
  const included = longest(dns.includeSuffixes, plain);
  const excluded = longest(dns.excludeSuffixes, plain);
  return included > 0 && included >= excluded ? cluster : upstream;
}

/** True when the name must not be asked upstream once the cluster does not know it. */
export function isClusterOnly(name: string, dns: DesiredDns): boolean {
  return isBelow(name.replace(/\.$/, ''), dns.clusterDomain) || name.endsWith(`.${searchDevice}.`);
}

function isBelow(name: string, domain: string): boolean {
  const clean = domain.replace(/^\./, '').replace(/\.$/, '').toLowerCase();
  return name === clean || name.endsWith(`.${clean}`);
}

function longest(suffixes: readonly string[], name: string): number {
  return Math.max(0, ...suffixes.filter((suffix) => isBelow(name, suffix)).map(({ length }) => length));
}
