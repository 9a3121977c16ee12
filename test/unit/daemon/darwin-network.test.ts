import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { formatIp, formatSubnet, isReason } from '../../../src/base/index.ts';
import { DarwinNetwork } from '../../../src/daemon/os/darwin/network.ts';
import { parseDestination, parseNetstat, parseScutil } from '../../../src/daemon/os/darwin/routes.ts';
import { HandClock, settled } from '../manager/hand-clock.ts';
import { FakeMachine } from './machine.ts';
import { runDarwin } from './machine-darwin.ts';
import { describeNetwork, toPlan } from './platform-contract.ts';

const golden = (name: string): string => readFileSync(new URL(`../../golden/darwin/${name}`, import.meta.url), 'utf8');
const device = 'utun6';

let clock = new HandClock();
describeNetwork({
  name: 'darwin',
  device,
  create(machine) {
    clock = new HandClock();
    return new DarwinNetwork({ clock, run: runDarwin(machine) });
  },
  look: () => clock.advance(5_000),
});

const print = (text: string, family: 4 | 6): string[] =>
  parseNetstat(text, family).map(
    ({ subnet, device: name, gateway }) => `${formatSubnet(subnet)} ${gateway ?? '-'} ${name}`,
  );

test('the routes of netstat are read in full, whatever it leaves out', () => {
  assert.deepEqual(print(golden('netstat-inet.txt'), 4), [
    '0.0.0.0/0 192.168.1.1 en0',
    '0.0.0.0/0 - bridge100',
    '10.0.0.0/8 10.8.0.1 utun4',
    '10.100.0.0/16 10.100.0.1 utun6',
    '10.100.0.1/32 10.100.0.0 utun6',
    '127.0.0.0/8 127.0.0.1 lo0',
    '127.0.0.1/32 127.0.0.1 lo0',
    '169.254.0.0/16 - en0',
    '172.16.0.0/12 - utun5',
    '192.168.1.0/24 - en0',
    '192.168.1.1/32 - en0',
    '192.168.189.0/24 192.168.189.1 utun6',
    '224.0.0.0/4 - en0',
    '255.255.255.255/32 - en0',
  ]);
});

test('the columns of older systems are told by their heads', () => {
  assert.deepEqual(print(golden('netstat-inet-old.txt'), 4), [
    '0.0.0.0/0 192.168.1.1 en0',
    '172.17.0.0/16 - vmnet1',
    '192.168.1.0/24 - en0',
  ]);
});

test('IPv6 routes are read without the names of devices in their addresses', () => {
  assert.deepEqual(print(golden('netstat-inet6.txt'), 6), [
    '::/0 fe80::1%en0 en0',
    '::/0 fe80::%utun0 utun0',
    '::1/128 ::1 lo0',
    '2001:db8:17::/64 - en0',
    '2001:db8:17::1c2/128 - lo0',
    'fd00:100::/48 - utun6',
    'fe80::/64 fe80::1%lo0 lo0',
    'fe80::1/128 - lo0',
    'fe80::/64 - en0',
    'ff00::/8 ::1 lo0',
    'ff02::/32 - en0',
  ]);
});

test('a text that is no destination is none', () => {
  for (const text of ['', 'Internet:', '10.1.2.3.4', '10/33', '10/x', 'link#4', '300.1/16', 'fd00::/64']) {
    assert.equal(parseDestination(text, 4), undefined, text);
  }
});

test('the resolvers are those for all names, without those of one domain or one link', () => {
  assert.deepEqual(parseScutil(golden('scutil-dns.txt')).map(formatIp), ['192.168.1.1', '2001:db8:17::1']);
});

test('the device gets the largest packets that it takes', async () => {
  const machine = new FakeMachine(device);
  const network = new DarwinNetwork({ clock: new HandClock(), run: runDarwin(machine) });
  await network.apply(toPlan(device, { subnets: ['10.100.0.0/16'] }));
  assert.equal(machine.link(device).mtu, 16_384);
  network.dispose();
});

test('a peer that is to keep its route is none', async () => {
  const machine = new FakeMachine(device);
  const network = new DarwinNetwork({ clock: new HandClock(), run: runDarwin(machine) });
  await network.apply(toPlan(device, { subnets: ['10.100.0.0/16'], neverProxy: ['10.100.0.1/32'] }));
  assert.deepEqual(machine.link(device).addresses, ['inet 10.100.0.0 --> 10.100.0.0 netmask 0xffff0000']);
  network.dispose();
});

test('a route that the system did not take is an error, although the command ended well', async () => {
  const machine = new FakeMachine(device);
  machine.addRoute({ subnet: '10.100.0.7/32', device: 'eth0' });
  const network = new DarwinNetwork({ clock: new HandClock(), run: runDarwin(machine) });
  await assert.rejects(network.apply(toPlan(device, { subnets: ['10.100.0.0/16', '10.100.0.7/32'] })), (error) =>
    isReason(error, 'daemon.command-failed'),
  );
  network.dispose();
});

test('an IPv6 address is waited for until it can be listened on', async () => {
  const machine = new FakeMachine(device);
  const hand = new HandClock();
  let isTentative = true;
  const run = runDarwin(machine);
  const network = new DarwinNetwork({
    clock: hand,
    run: async (file, args) => {
      const text = await run(file, args);
      return isTentative && args.length === 1 ? text.replace(/prefixlen 128/, '$& tentative') : text;
    },
  });
  let isDone = false;
  const applied = network.apply(toPlan(device, { subnets: ['fd00:100::/64'] })).then(() => {
    isDone = true;
  });
  for (let step = 0; step < 5; step++) {
    hand.advance(200);
    await settled();
  }
  assert.equal(isDone, false);
  isTentative = false;
  hand.advance(200);
  await applied;
  network.dispose();
  assert.equal(hand.timers, 0);
});
