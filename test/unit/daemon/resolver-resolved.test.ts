import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIp, isReason, parseSubnet, silentLogger } from '../../../src/base/index.ts';
import type { ResolverPlan } from '../../../src/daemon/os/contract.ts';
import { DnsRedirect } from '../../../src/daemon/os/linux/dns-redirect.ts';
import { hasResolved, Resolved } from '../../../src/daemon/os/linux/resolved.ts';
import { LinuxResolver } from '../../../src/daemon/os/linux/resolver.ts';
import { reverseZones } from '../../../src/daemon/os/reverse-zones.ts';
import { HandClock, settled } from '../manager/hand-clock.ts';
import { FakeNft } from './fake-nft.ts';
import { FakeResolved } from './fake-resolved.ts';
import { ip } from './packets.ts';

const subnet = parseSubnet('10.100.0.0/16');
const plan: ResolverPlan = {
  device: 'nf0',
  port: 51_011,
  resolvers: [ip('127.0.0.53')],
  sourcePorts: [30_053],
  routedDomains: ['cluster.local', 'svc', 'default'],
  searchDomains: ['tel2-search', 'default'],
  subnets: subnet ? [subnet] : [],
};
const upstreamFile = 'nameserver 192.0.2.53\nnameserver 127.0.0.53\nsearch .\n';

function make(files: Readonly<Record<string, string>> = {}) {
  const bus = new FakeResolved();
  const nft = new FakeNft();
  const clock = new HandClock();
  const resolved = new Resolved({ clock, run: bus.run, read: (path) => files[path] });
  const redirect = new DnsRedirect({ clock, log: silentLogger, uid: 0, start: nft.start });
  const resolver = new LinuxResolver(resolved, redirect, silentLogger);
  /** Time passes until it is done. */
  const passing = async <T>(work: Promise<T>): Promise<T> => {
    let isDone = false;
    const end = (): void => {
      isDone = true;
    };
    work.then(end, end);
    for (let step = 0; step < 100 && !isDone; step++) {
      clock.advance(100);
      await settled();
    }
    return work;
  };
  return { bus, nft, clock, resolved, resolver, passing };
}

test('the link of our device leads the cluster’s names to our port, and nothing else', async () => {
  const { bus, resolved } = make();
  await resolved.apply(plan);
  assert.equal(
    bus.print(),
    `link 7
  DNSEx 1 2 4 127 0 0 1 51011 
  Domains 5 tel2-search false default false cluster.local true svc true 100.10.in-addr.arpa true
  DefaultRoute false
  DNSSEC no
  DNSOverTLS no
  LLMNR no
  MulticastDNS no`,
  );
  await resolved.clear();
  assert.equal(bus.print(), '');
});

test('the same plan again says nothing, another one does', async () => {
  const { bus, resolved } = make();
  await resolved.apply(plan);
  bus.changes.length = 0;
  await resolved.apply({ ...plan, resolvers: [] });
  assert.deepEqual(bus.changes, []);
  await resolved.apply({ ...plan, routedDomains: ['other'] });
  assert.ok(bus.print().includes('other true'));
});

test('a link that is noticed late is waited for', async () => {
  const { bus, resolved, passing } = make();
  bus.deafFor = 5;
  await passing(resolved.apply(plan));
  assert.ok(bus.print().includes('51011'));
});

test('one that never asks us keeps none of our settings', async () => {
  const { bus, resolved, clock, passing } = make();
  bus.deafFor = 1_000;
  await assert.rejects(passing(resolved.apply(plan)), (error) => isReason(error, 'daemon.resolver-failed'));
  assert.equal(bus.print(), '');
  assert.ok(clock.nowMs() <= 2_500);
});

test('one from before version 246 is passed over, for good', async () => {
  const { bus, nft, resolver } = make();
  bus.unknown.add('SetLinkDNSEx');
  await resolver.apply(plan);
  assert.equal(resolver.kind, 'nft-redirect');
  assert.equal(bus.print(), '');
  assert.ok(nft.print().includes('ip daddr { 127.0.0.53 }'));
  assert.equal(await resolver.upstreams(), undefined);
  bus.unknown.clear();
  await resolver.apply({ ...plan, port: 51_012 });
  assert.equal(bus.print(), '');
});

test('a machine whose programs ask systemd-resolved needs no table, and one with another resolver does', async () => {
  const { nft, resolver } = make();
  await resolver.apply(plan);
  assert.equal(resolver.kind, 'systemd-resolved');
  assert.equal(nft.print(), '');
  await resolver.apply({ ...plan, resolvers: [ip('192.0.2.1'), ip('127.0.0.53')] });
  assert.ok(nft.print().includes('ip daddr { 192.0.2.1 }'));
  await resolver.clear();
  assert.equal(nft.print(), '');
});

test('our own questions go to the resolvers behind systemd-resolved, not to itself', async () => {
  const { resolver } = make({ '/run/systemd/resolve/resolv.conf': upstreamFile });
  assert.deepEqual((await resolver.upstreams())?.map(formatIp), ['192.0.2.53']);
  assert.equal(await make().resolver.upstreams(), undefined);
});

test('systemd-resolved runs where the bus says so, and not where there is no bus', async () => {
  assert.equal(await hasResolved(new FakeResolved().run), true);
  assert.equal(await hasResolved(() => Promise.reject(new Error('spawn busctl ENOENT'))), false);
});

const zones: readonly [string, string][] = [
  ['10.100.0.0/16', '100.10.in-addr.arpa'],
  ['192.168.4.128/25', '4.168.192.in-addr.arpa'],
  ['172.16.0.0/15', '16.172.in-addr.arpa 17.172.in-addr.arpa'],
  ['10.0.0.0/9', '10.in-addr.arpa'],
  ['10.1.2.3/32', '3.2.1.10.in-addr.arpa'],
  ['fd00:201::/32', '1.0.2.0.0.0.d.f.ip6.arpa'],
  ['fd00:200::/31', '0.0.2.0.0.0.d.f.ip6.arpa 1.0.2.0.0.0.d.f.ip6.arpa'],
];
for (const [text, expected] of zones) {
  test(`the names of ${text} are below ${expected}`, () => {
    const each = parseSubnet(text);
    assert.equal(each && reverseZones(each).join(' '), expected);
  });
}
