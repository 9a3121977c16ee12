import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIp, parseIp, parseSubnet, reverseAddress } from '../../../../src/base/index.ts';
import { createPolicy } from '../../../../src/daemon/dns/policy.ts';
import { desiredDns } from './support.ts';

const dns = desiredDns({
  includeSuffixes: ['.corp.com', 'intern.office.example'],
  excludes: ['printer', 'build.service-a-ns.svc'],
  mappings: [
    { name: 'database', aliasFor: 'postgres.service-b-ns' },
    { name: 'Legacy.office.example.', aliasFor: '10.9.8.7' },
    { name: 'printer', aliasFor: '10.9.8.6' },
  ],
});
const subnets = ['10.96.0.0/16', 'fd00:10::/64'].map(parseSubnet).filter((each) => each !== undefined);

function reverse6(address: string): string {
  const digits = [...(parseIp(address) ?? [])].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${[...digits].reverse().join('.')}.ip6.arpa`;
}

const names: [name: string, where: string][] = [
  // Exact exclusions come first, before mappings and before what would be the cluster's.
  ['printer.', 'upstream'],
  ['printer.service-a-ns.', 'upstream'],
  ['build.service-a-ns.svc.', 'upstream'],
  ['database.', 'mapped to postgres.service-b-ns.'],
  ['database.tel2-search.', 'mapped to postgres.service-b-ns.'],
  ['legacy.office.example.', 'mapped to 10.9.8.7'],
  // Included suffixes against excluded ones: the longer wins.
  ['git.corp.com.', 'cluster git.corp.com.'],
  ['corp.com.', 'cluster corp.com.'],
  ['a.intern.office.example.', 'cluster a.intern.office.example.'],
  ['xcorp.com.', 'upstream'],
  ['example.com.', 'upstream'],
  ['github.io.', 'upstream'],
  // The cluster's domain, and nothing that merely ends alike.
  ['service-a.service-a-ns.svc.cluster.local.', 'cluster only service-a.service-a-ns.svc.cluster.local.'],
  ['cluster.local.', 'cluster only cluster.local.'],
  ['notcluster.local.', 'upstream'],
  // Mapped namespaces and svc.
  ['service-a.service-a-ns.', 'cluster service-a.service-a-ns.'],
  ['service-a.service-a-ns.svc.', 'cluster service-a.service-a-ns.svc.'],
  ['_http._tcp.service-a.service-a-ns.', 'cluster _http._tcp.service-a.service-a-ns.'],
  ['service-a.other-ns.', 'upstream'],
  // A search path's attempt at a name of the internet is not the cluster's; a service called like a suffix is.
  ['www.example.com.service-a-ns.', 'upstream'],
  ['com.service-a-ns.', 'cluster com.service-a-ns.'],
  // The search path.
  ['service-a.tel2-search.', 'cluster only service-a.'],
  ['service-a.service-a-ns.tel2-search.', 'cluster only service-a.service-a-ns.'],
  ['www.example.com.tel2-search.', 'refused'],
  ['printer.tel2-search.', 'refused'],
  ['localhost.tel2-search.', 'refused'],
  ['tel2-search.', 'refused'],
  ['service-a.tel2-search.office.example.', 'refused'],
  // One label.
  ['service-a.', 'cluster service-a.'],
  ['localhost.', 'upstream'],
  ['a.localhost.', 'upstream'],
  ['.', 'upstream'],
  // What systems ask for by themselves: refused where it would be the cluster's, or theirs to ask elsewhere.
  ['wpad.service-a-ns.', 'refused'],
  ['_ldap._tcp.dc._msdcs.service-a-ns.svc.cluster.local.', 'refused'],
  ['wpad.office.example.', 'upstream'],
  // Reverse names: of the cluster's subnets, whole addresses only.
  ['7.0.96.10.in-addr.arpa.', 'cluster only 7.0.96.10.in-addr.arpa.'],
  ['7.0.97.10.in-addr.arpa.', 'upstream'],
  ['96.10.in-addr.arpa.', 'upstream'],
  ['x.0.96.10.in-addr.arpa.', 'upstream'],
  [`${reverse6('fd00:10::1')}.`, `cluster only ${reverse6('fd00:10::1')}.`],
  [`${reverse6('fd00:11::1')}.`, 'upstream'],
  [`${reverse6('fd00:10::1').slice(2)}.`, 'upstream'],
  // The rest stays as it was.
  ['intranet.office.example.', 'upstream'],
];

const decide = createPolicy(dns, subnets);
for (const [name, expected] of names) {
  test(`${name} goes: ${expected}`, () => {
    const verdict = decide(name);
    const where =
      verdict.kind === 'cluster'
        ? `cluster ${verdict.only ? 'only ' : ''}${verdict.name}`
        : verdict.kind === 'mapped'
          ? `mapped to ${typeof verdict.target === 'string' ? verdict.target : formatIp(verdict.target)}`
          : verdict.kind === 'refuse'
            ? 'refused'
            : verdict.kind;
    assert.equal(where, expected);
  });
}

test('a longer excluded suffix takes names out of an included one', () => {
  const narrow = createPolicy(desiredDns({ includeSuffixes: ['.com'], excludeSuffixes: ['.intern.com'] }));
  assert.equal(narrow('a.com.').kind, 'cluster');
  assert.equal(narrow('a.intern.com.').kind, 'upstream');
});

test('a reverse name stands for the address that it spells', () => {
  assert.deepEqual(reverseAddress('7.0.96.10.in-addr.arpa'), parseIp('10.96.0.7'));
  assert.deepEqual(reverseAddress(reverse6('fd00:10::1')), parseIp('fd00:10::1'));
});
