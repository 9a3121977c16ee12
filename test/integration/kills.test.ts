import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { waitFor } from '../cluster/shell.ts';
import { type Machine, type MachineProcess, openMachine, startConnector } from '../support/machine.ts';
import { stateOf } from '../support/machine-state.ts';

const kills = 50;
/** Moments are drawn from this span: after the daemon's start, or after its network is up. */
const spanMs = 900;
const goneLimitMs = 30_000;

/** A machine with a network of its own to get back to, and a firewall that needs a rule of ours. */
async function prepare(machine: Machine): Promise<void> {
  const commands = [
    ['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1'],
    // Without addresses of its own making: they come a second later.
    ['ip', 'link', 'set', 'eth0', 'addrgenmode', 'none'],
    ['ip', 'link', 'set', 'eth1', 'addrgenmode', 'none'],
    ['ip', 'link', 'set', 'eth1', 'up'],
    ['ip', 'address', 'add', '10.0.0.2/24', 'dev', 'eth0'],
    ['ip', 'link', 'set', 'eth0', 'up'],
    ['ip', 'route', 'add', 'default', 'via', '10.0.0.1'],
    ['nft', 'add table inet filter'],
    ['nft', 'add chain inet filter input { type filter hook input priority 0; policy drop; }'],
    ['nft', 'add rule inet filter input iif lo accept'],
    ['nft', 'add rule inet filter input ct state established,related accept'],
  ];
  for (const command of commands) {
    await machine.run(command);
  }
  const resolv = join(machine.folder, 'resolv.conf');
  await writeFile(resolv, 'nameserver 10.0.0.53\n');
  await machine.run(['mount', '--bind', resolv, '/etc/resolv.conf']);
}

/** Connections, datagrams and names without end, until it is killed. */
const load = `
const { createConnection } = await import('node:net');
const { createSocket } = await import('node:dgram');
const { resolve4 } = await import('node:dns/promises');
const connect = () => { const s = createConnection(8080, '10.201.7.7', () => s.write('x'.repeat(9000)));
  s.on('error', () => {}); s.on('data', () => s.destroy()); s.on('close', () => setTimeout(connect, 5)); };
for (let i = 0; i < 8; i++) connect();
const udp = createSocket('udp4'); udp.on('error', () => {});
setInterval(() => udp.send('hello', 9000, '10.201.7.8', () => {}), 5);
setInterval(() => resolve4('service-' + Math.random() + '.default').catch(() => {}), 20);
`;

test('after each of fifty kills at random moments under load, the machine is as it was before', async (t) => {
  const machine = await openMachine();
  t.after(() => machine.close());
  await prepare(machine);
  const runtime = join(machine.folder, 'run');
  await mkdir(runtime);
  const programs: MachineProcess[] = [];
  const traffic = machine.start([process.execPath, '--input-type=module', '-e', load]);
  programs.push(traffic);
  const before = await stateOf(machine, runtime);
  let underLoad = 0;
  for (let number = 0; number < kills; number++) {
    const daemon = machine.start([
      ...[process.execPath, machine.daemon, 'run', '--uid', '0', '--gid', '0'],
      ...['--runtime-dir', runtime],
    ]);
    const connected = daemon
      .line()
      .then(() => startConnector(machine, { runtimeDirectory: runtime, network: { neverProxy: ['10.201.9.9/32'] } }))
      .then((connector) => {
        underLoad++;
        programs.push(connector.process);
      })
      .catch(() => undefined);
    // Every other one from its very start on; the rest once traffic flows, however long a busy machine takes until then.
    if (number % 2 === 0) {
      await connected;
    }
    const moment = performance.now() + Math.random() * spanMs;
    await waitFor('the moment', spanMs + 1_000, async () => (performance.now() >= moment ? true : undefined));
    await daemon.kill('SIGKILL');
    await connected;
    let left = '';
    await waitFor('the machine to be as before', goneLimitMs, async () => {
      left = await stateOf(machine, runtime);
      return left === before ? true : undefined;
    }).catch(() => undefined);
    assert.equal(left, before, `kill ${number + 1}`);
  }
  assert.ok(underLoad >= kills / 3, `only ${underLoad} of the kills were under load`);
  await traffic.kill('SIGKILL');
});
