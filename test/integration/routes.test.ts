import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DaemonStatus } from '../../src/protocol/index.ts';
import { waitFor } from '../cluster/shell.ts';
import { type Machine, openMachine, startConnector, startDaemon } from '../support/machine.ts';

const noticeLimitMs = 15_000;
const processPath = process.execPath;
/** As a VPN does: a TUN that lives as long as its program. */
const holdTun = `
import fcntl, struct, sys
tun = open('/dev/net/tun', 'r+b', buffering=0)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH', b'tun9', 0x1001))
print('held', flush=True)
sys.stdin.read()
`;

test('routes leave exceptions alone, come back when others remove them, and go without a trace', async (t) => {
  const machine = await openMachine();
  t.after(() => machine.close());
  for (const command of [
    ['link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1'],
    ['address', 'add', '10.0.0.2/24', 'dev', 'eth0'],
    ['link', 'set', 'eth1', 'up'],
    ['link', 'set', 'eth0', 'up'],
    ['route', 'add', 'default', 'via', '10.0.0.1'],
    ['route', 'add', '172.30.0.0/16', 'dev', 'eth1'],
  ]) {
    await machine.run(['ip', ...command]);
  }
  const routes = (): Promise<string> => machine.run(['ip', 'route']);
  const goesTo = async (address: string): Promise<string> =>
    /dev (\S+)/.exec(await machine.run(['ip', 'route', 'get', address]))?.[1] ?? '';
  const before = await routes();
  const daemon = await startDaemon(machine);
  await startConnector(machine, {
    network: {
      subnets: ['10.201.0.0/16', '172.30.0.0/16'],
      neverProxy: ['10.201.9.9/32'],
      allowConflicting: ['172.30.0.0/16'],
    },
  });

  assert.equal(await goesTo('10.201.9.8'), 'nf0');
  assert.equal(await goesTo('10.201.9.9'), 'eth0', 'the exception keeps the way it had');
  assert.equal(await goesTo('172.30.1.1'), 'nf0', 'an allowed conflict is ours meanwhile');

  await machine.run(['ip', 'route', 'delete', '10.201.128.0/17', 'dev', 'nf0']);
  assert.equal(await goesTo('10.201.200.1'), 'eth0');
  await waitFor('the route', noticeLimitMs, async () => ((await goesTo('10.201.200.1')) === 'nf0' ? true : undefined));

  await daemon.kill();
  assert.equal(await routes(), before);
});

test('a subnet that another program has a route for is refused, and nothing changes', async (t) => {
  const machine = await openMachine();
  t.after(() => machine.close());
  await machine.run(['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1']);
  await machine.run(['ip', 'link', 'set', 'eth0', 'up']);
  await machine.run(['ip', 'route', 'add', '10.0.0.0/8', 'dev', 'eth0']);
  await startDaemon(machine);
  await assert.rejects(
    startConnector(machine),
    /10\.201\.0\.0\/16 overlaps with the existing route 10\.0\.0\.0\/8 dev eth0/,
  );
  assert.equal((await machine.run(['ip', 'link'])).includes('nf0'), false);
});

test('the program that holds the other TUN is named', async (t) => {
  const machine = await openMachine();
  t.after(() => machine.close());
  const other = machine.start(['python3', '-c', holdTun]);
  assert.equal(await other.line(), 'held');
  await machine.run(['ip', 'link', 'set', 'tun9', 'up']);
  await machine.run(['ip', 'route', 'add', '10.0.0.0/8', 'dev', 'tun9']);
  await startDaemon(machine);
  await assert.rejects(startConnector(machine), /dev tun9, which belongs to python3 \(process \d+\)/);
});

test('where another program has a route, virtual addresses stand in when that is asked for', async (t) => {
  const machine = await openMachine();
  t.after(() => machine.close());
  await machine.run(['ip', 'link', 'add', 'docker0', 'type', 'bridge']);
  await machine.run(['ip', 'link', 'set', 'docker0', 'up']);
  await machine.run(['ip', 'route', 'add', '10.201.0.0/17', 'dev', 'docker0']);
  await startDaemon(machine);
  const network = { subnets: ['10.201.0.0/16', '10.202.0.0/16'], virtualSubnets: ['246.246.0.0/16'] };
  const { applied } = await startConnector(machine, { network });

  assert.deepEqual(applied.subnets, ['10.202.0.0/16', '246.246.0.0/16']);
  assert.deepEqual(applied.translated, [
    { subnet: '10.201.0.0/16', route: '10.201.0.0/17 dev docker0, which belongs to Docker' },
  ]);
  assert.equal(await goesTo(machine, '10.201.0.1'), 'docker0');
  assert.equal(await goesTo(machine, '246.246.7.7'), 'nf0');
});

test('a route that comes later is said, or translated where that was asked for', async (t) => {
  const machine = await openMachine();
  t.after(() => machine.close());
  await machine.run(['ip', 'link', 'add', 'docker0', 'type', 'bridge']);
  await machine.run(['ip', 'link', 'set', 'docker0', 'up']);
  await startDaemon(machine);
  await startConnector(machine, { network: { cluster: 'a', subnets: ['10.201.0.0/16'] } });
  const second = { cluster: 'b', subnets: ['10.203.0.0/16'], virtualSubnets: ['246.246.0.0/16'] };
  const { process } = await startConnector(machine, { network: second });
  const status = async () =>
    JSON.parse(
      await machine.run([
        processPath,
        machine.daemon,
        ...['status', '--uid', '0', '--runtime-dir', machine.folder, '--json'],
      ]),
    ) as DaemonStatus;
  assert.deepEqual((await status()).conditions, []);

  await machine.run(['ip', 'route', 'add', '10.201.9.0/24', 'dev', 'docker0']);
  await machine.run(['ip', 'route', 'add', '10.203.9.0/24', 'dev', 'docker0']);

  assert.deepEqual(JSON.parse(await process.line()), {
    applied: ['246.246.0.0/16'],
    translated: ['10.203.0.0/16'],
  });
  assert.equal(await goesTo(machine, '246.246.7.7'), 'nf0', 'whoever is told can connect there at once');
  const { conditions = [], subnets } = await status();
  assert.deepEqual(subnets, ['10.201.0.0/16', '246.246.0.0/16']);
  assert.deepEqual(
    conditions.map(({ args }) => args),
    [['10.201.0.0/16', '10.201.9.0/24 dev docker0, which belongs to Docker']],
  );
  assert.equal(await goesTo(machine, '10.203.0.1'), '', 'nothing of the translated subnet is ours any more');
  assert.equal(await goesTo(machine, '10.201.0.1'), 'nf0');

  await machine.run(['ip', 'route', 'delete', '10.201.9.0/24', 'dev', 'docker0']);
  await waitFor('the all-clear', noticeLimitMs, async () =>
    (await status()).conditions?.length === 0 ? true : undefined,
  );
});

/** The device a packet to this address would leave by; empty when there is no way. */
async function goesTo(machine: Machine, address: string): Promise<string> {
  return /dev (\S+)/.exec(await machine.run(['ip', 'route', 'get', address]).catch(() => ''))?.[1] ?? '';
}
