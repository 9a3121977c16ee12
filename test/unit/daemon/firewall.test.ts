import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger, type LogLine, silentLogger } from '../../../src/base/index.ts';
import { LinuxFirewall } from '../../../src/daemon/os/linux/firewall.ts';
import { HandClock, settled } from '../manager/hand-clock.ts';
import { FakeFilter } from './fake-filter.ts';

function make(log = silentLogger) {
  const filter = new FakeFilter();
  const clock = new HandClock();
  const firewall = new LinuxFirewall({ clock, log, run: filter.run, read: filter.read });
  /** Time passes, and what it started ends. */
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    for (let index = 0; index < 20; index++) {
      await settled();
    }
  };
  return { filter, clock, firewall, pass };
}

const accept = 'iifname nf0 accept comment "nearfield nf0"';
const legacyAccept = '-A INPUT -i nf0 -m comment --comment "nearfield nf0" -j ACCEPT';

test('a chain that drops by default gets our rule at its head, and loses it at the end', async () => {
  const { filter, firewall } = make();
  filter.chain('inet filter input', { policy: 'drop', rules: ['accept'] });
  const before = filter.print();
  await firewall.open('nf0');
  assert.equal(filter.print(), `inet filter input (drop)\n  ${accept}\n  accept`);
  await firewall.close('nf0');
  assert.equal(filter.print(), before);
});

const endings: readonly [string, unknown][] = [
  ['a drop', 'drop'],
  ['a reject', 'reject'],
  ['a jump', 'jump'],
  ['a map of verdicts', { vmap: {} }],
  ['a reject of iptables', { xt: { type: 'target', name: 'REJECT' } }],
  ['a target that nft cannot name', { xt: null }],
];
for (const [what, rule] of endings) {
  test(`a chain that accepts by default but ends in ${what} gets our rule`, async () => {
    const { filter, firewall } = make();
    filter.chain('ip filter INPUT', { rules: ['accept', rule] });
    await firewall.open('nf0');
    assert.ok(filter.print().startsWith(`ip filter INPUT (accept)\n  ${accept}\n`));
  });
}

test('chains that hold nothing back stay as they are', async () => {
  const { filter, firewall } = make();
  filter.chain('ip filter INPUT', { rules: ['accept', { xt: { type: 'match', name: 'tcp' } }] });
  filter.chain('ip mangle PREROUTING', { hook: 'prerouting', rules: ['drop'] });
  filter.chain('ip filter OUTPUT', { hook: 'output', policy: 'drop' });
  filter.chain('ip filter FORWARD', { hook: 'forward', policy: 'drop' });
  await firewall.open('nf0');
  assert.deepEqual(filter.changes, []);
});

test('a chain before routing that drops by default gets our rule', async () => {
  const { filter, firewall } = make();
  filter.chain('inet raw prerouting', { hook: 'prerouting', policy: 'drop' });
  await firewall.open('nf0');
  assert.ok(filter.print().includes(accept));
});

test('opening again changes nothing', async () => {
  const { filter, firewall } = make();
  filter.chain('inet filter input', { policy: 'drop', rules: ['drop'] });
  filter.legacy.set('iptables-legacy filter INPUT', ['-P INPUT DROP']);
  filter.zones = new Map();
  await firewall.open('nf0');
  filter.changes.length = 0;
  await firewall.open('nf0');
  assert.deepEqual(filter.changes, []);
});

test('a rule that a reload took away comes back within five seconds', async () => {
  const { filter, firewall, pass } = make();
  filter.chain('inet filter input', { policy: 'drop', rules: ['accept'] });
  await firewall.open('nf0');
  filter.reload();
  await pass(5_000);
  assert.ok(filter.print().includes(accept));
});

test('a rule that another one was put in front of moves to the head', async () => {
  const { filter, firewall, pass } = make();
  filter.chain('inet filter input', { policy: 'drop' });
  await firewall.open('nf0');
  filter.prepend('inet filter input', 'drop');
  await pass(5_000);
  assert.equal(filter.print(), `inet filter input (drop)\n  ${accept}\n  drop`);
});

test('a firewall that comes up later is opened', async () => {
  const { filter, firewall, pass } = make();
  await firewall.open('nf0');
  filter.chain('inet filter input', { policy: 'drop' });
  await pass(5_000);
  assert.ok(filter.print().includes(accept));
});

test('nothing comes back after the end', async () => {
  const { filter, firewall, clock, pass } = make();
  filter.chain('inet filter input', { policy: 'drop' });
  await firewall.open('nf0');
  await firewall.close('nf0');
  await pass(60_000);
  assert.equal(filter.print(), 'inet filter input (drop)');
  assert.equal(clock.timers, 0);
});

test('what a killed predecessor left is removed without memory, and nothing of another user', async () => {
  const { filter, firewall } = make();
  filter.chain('inet filter input', { policy: 'drop' });
  filter.legacy.set('ip6tables-legacy filter INPUT', ['-P INPUT DROP']);
  filter.zones = new Map();
  await firewall.open('nf0');
  await firewall.open('nf1000');
  const successor = new LinuxFirewall({
    clock: new HandClock(),
    log: silentLogger,
    run: filter.run,
    read: filter.read,
  });
  await successor.close('nf0');
  assert.equal(
    filter.print(),
    [
      'inet filter input (drop)',
      '  iifname nf1000 accept comment "nearfield nf1000"',
      'ip6tables-legacy filter INPUT',
      '  -P INPUT DROP',
      '  -A INPUT -i nf1000 -m comment --comment "nearfield nf1000" -j ACCEPT',
      'nf1000 in zone trusted',
    ].join('\n'),
  );
});

test('iptables from before nftables gets our rule where it drops, and only there', async () => {
  const { filter, firewall } = make();
  filter.legacy.set('iptables-legacy filter INPUT', ['-P INPUT ACCEPT', '-A INPUT -j ufw-input']);
  filter.legacy.set('iptables-legacy mangle PREROUTING', ['-P PREROUTING ACCEPT', '-A PREROUTING -i eth0 -j DROP']);
  filter.legacy.set('ip6tables-legacy filter INPUT', ['-P INPUT ACCEPT', '-A INPUT -j LOG']);
  const before = filter.print();
  await firewall.open('nf0');
  assert.equal(
    filter.print(),
    before.replace('-P INPUT ACCEPT\n  -A INPUT -j ufw', `-P INPUT ACCEPT\n  ${legacyAccept}\n  -A INPUT -j ufw`),
  );
  await firewall.close('nf0');
  assert.equal(filter.print(), before);
});

test('a rule behind a drop in iptables moves to the head, once', async () => {
  const { filter, firewall } = make();
  filter.legacy.set('iptables-legacy filter INPUT', [
    '-P INPUT ACCEPT',
    '-A INPUT -j DROP',
    legacyAccept,
    legacyAccept,
  ]);
  await firewall.open('nf0');
  assert.deepEqual(filter.legacy.get('iptables-legacy filter INPUT'), [
    '-P INPUT ACCEPT',
    legacyAccept,
    '-A INPUT -j DROP',
  ]);
});

test('firewalld gets the device into its trusted zone, and its own table is left alone', async () => {
  const { filter, firewall } = make();
  filter.chain('inet firewalld filter_INPUT', { rules: ['jump', 'reject'] });
  filter.zones = new Map([['eth0', 'public']]);
  const before = filter.print();
  await firewall.open('nf0');
  assert.equal(filter.print(), `${before}\nnf0 in zone trusted`);
  await firewall.close('nf0');
  assert.equal(filter.print(), before);
});

test('a machine without any filter program is no error', async () => {
  const lines: LogLine[] = [];
  const { filter, firewall } = make(createLogger({ wallMs: () => 0, sink: (line) => lines.push(line) }));
  for (const program of ['nft', 'busctl', 'iptables', 'iptables-legacy', 'ip6tables', 'ip6tables-legacy']) {
    filter.missing.add(program);
  }
  await firewall.open('nf0');
  await firewall.close('nf0');
  assert.deepEqual(lines, []);
});

test('a firewall that does not let us in is said once, and opening does not fail', async () => {
  const lines: LogLine[] = [];
  const filter = new FakeFilter();
  filter.chain('inet filter input', { policy: 'drop' });
  const refusing = new LinuxFirewall({
    clock: new HandClock(),
    log: createLogger({ wallMs: () => 0, sink: (line) => lines.push(line) }),
    run: (file, args) => (args[0] === 'insert' ? Promise.reject(new Error('not permitted')) : filter.run(file, args)),
    read: filter.read,
  });
  await refusing.open('nf0');
  await refusing.open('nf0');
  assert.deepEqual(
    lines.map(({ level, fields }) => [level, fields?.['kind']]),
    [['warn', 'nftables']],
  );
});
