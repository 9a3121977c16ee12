import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason, silentLogger } from '../../../src/base/index.ts';
import type { ResolverPlan } from '../../../src/daemon/os/contract.ts';
import { DnsRedirect } from '../../../src/daemon/os/linux/dns-redirect.ts';
import { HandClock, settled } from '../manager/hand-clock.ts';
import { FakeNft } from './fake-nft.ts';
import { ip } from './packets.ts';

const plan: ResolverPlan = {
  device: 'nf1000',
  port: 51_011,
  resolvers: [ip('10.0.0.2'), ip('127.0.0.53'), ip('fd00::2')],
  sourcePorts: [30_053, 30_054],
  routedDomains: [],
  searchDomains: [],
  subnets: [],
};

function make(nft = new FakeNft(), uid = 1000) {
  const clock = new HandClock();
  const redirect = new DnsRedirect({ clock, log: silentLogger, uid, start: nft.start });
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    for (let index = 0; index < 10; index++) {
      await settled();
    }
  };
  return { nft, clock, redirect, pass };
}

test('each resolver is led to us, UDP and TCP, our own ports pass, and the user’s questions come first', async () => {
  const { nft, redirect } = make();
  await redirect.apply(plan);
  assert.equal(
    nft.print(),
    `table inet nearfield-1000, owned
  chain own at -106
    meta skuid 1000 ip daddr { 10.0.0.2, 127.0.0.53 } udp dport 53 udp sport != { 30053, 30054 } redirect to :51011
    meta skuid 1000 ip daddr { 10.0.0.2, 127.0.0.53 } tcp dport 53 tcp sport != { 30053, 30054 } redirect to :51011
    meta skuid 1000 ip6 daddr { fd00::2 } udp dport 53 udp sport != { 30053, 30054 } redirect to :51011
    meta skuid 1000 ip6 daddr { fd00::2 } tcp dport 53 tcp sport != { 30053, 30054 } redirect to :51011
  chain others at -105
    ip daddr { 10.0.0.2, 127.0.0.53 } udp dport 53 udp sport != { 30053, 30054 } redirect to :51011
    ip daddr { 10.0.0.2, 127.0.0.53 } tcp dport 53 tcp sport != { 30053, 30054 } redirect to :51011
    ip6 daddr { fd00::2 } udp dport 53 udp sport != { 30053, 30054 } redirect to :51011
    ip6 daddr { fd00::2 } tcp dport 53 tcp sport != { 30053, 30054 } redirect to :51011`,
  );
  await redirect.clear();
  assert.equal(nft.print(), '');
});

test('the same plan again changes nothing', async () => {
  const { nft, redirect } = make();
  await redirect.apply(plan);
  await redirect.apply({ ...plan, routedDomains: ['svc'] });
  assert.equal(nft.transactions, 1);
});

test('resolvers that change are led to us in one step, by the same child', async () => {
  const { nft, redirect } = make();
  await redirect.apply(plan);
  await redirect.apply({ ...plan, resolvers: [ip('192.0.2.1')] });
  assert.equal(nft.started, 1);
  assert.equal(nft.transactions, 2);
  assert.ok(nft.print().includes('ip daddr { 192.0.2.1 } udp'));
  assert.ok(!nft.print().includes('10.0.0.2'));
});

test('a machine without resolvers keeps no rule and no child', async () => {
  const { nft, redirect } = make();
  await redirect.apply(plan);
  await redirect.apply({ ...plan, resolvers: [] });
  assert.equal(nft.print(), '');
});

test('a child that dies is replaced', async () => {
  const { nft, redirect, pass } = make();
  await redirect.apply(plan);
  const before = nft.print();
  nft.kill();
  assert.equal(nft.print(), '');
  await pass(1_000);
  assert.equal(nft.print(), before);
});

test('a child that cannot be replaced at once is tried again, less and less often', async () => {
  const { nft, redirect, pass } = make();
  await redirect.apply(plan);
  nft.isMissing = true;
  nft.kill();
  await pass(120_000);
  const tries = nft.started;
  assert.ok(tries > 2 && tries < 40, `${tries} tries`);
  nft.isMissing = false;
  for (let seconds = 0; seconds < 31; seconds++) {
    await pass(1_000);
  }
  assert.ok(nft.print().includes('nearfield-1000'));
});

test('nothing comes back after the end', async () => {
  const { nft, redirect, clock, pass } = make();
  await redirect.apply(plan);
  nft.kill();
  await redirect.clear();
  await pass(60_000);
  assert.equal(nft.print(), '');
  assert.equal(clock.timers, 0);
});

test('a kernel whose tables have no owners gets one without', async () => {
  const { nft, redirect } = make();
  nft.hasOwners = false;
  await redirect.apply(plan);
  assert.ok(nft.print().startsWith('table inet nearfield-1000\n'));
});

test('a machine without nft is told what to do', async () => {
  const { nft, redirect } = make();
  nft.isMissing = true;
  await assert.rejects(redirect.apply(plan), (error) => isReason(error, 'daemon.resolver-failed'));
});

test('two users do not meet', async () => {
  const nft = new FakeNft();
  const first = make(nft, 1000).redirect;
  const second = make(nft, 1001).redirect;
  await first.apply(plan);
  await second.apply({ ...plan, port: 51_012 });
  await first.clear();
  assert.match(nft.print(), /^table inet nearfield-1001, owned\n {2}chain own at -106\n {4}meta skuid 1001 .*51012/);
  await second.clear();
});
