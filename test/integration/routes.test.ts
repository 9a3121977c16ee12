import assert from 'node:assert/strict';
import { test } from 'node:test';
import { waitFor } from '../cluster/shell.ts';
import { openMachine, startConnector, startDaemon } from '../support/machine.ts';

const noticeLimitMs = 15_000;

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
