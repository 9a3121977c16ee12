import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { waitFor } from '../cluster/shell.ts';
import { type Machine, type MachineProcess, openMachine, startConnector } from '../support/machine.ts';
import { stateOf } from '../support/machine-state.ts';

const goneLimitMs = 20_000;

async function startDaemon(machine: Machine, runtime: string, hangSeconds: number): Promise<MachineProcess> {
  const daemon = machine.start([
    ...[process.execPath, machine.daemon, 'run', '--uid', '0', '--gid', '0'],
    ...['--runtime-dir', runtime, '--hang-seconds', String(hangSeconds)],
  ]);
  assert.equal(await daemon.line(), 'ready');
  return daemon;
}

test('a daemon that is stopped is ended, and the machine is as it was before', async (t) => {
  const machine = await openMachine();
  t.after(() => machine.close());
  const runtime = join(machine.folder, 'run');
  await mkdir(runtime);
  const before = await stateOf(machine, runtime);
  const daemon = await startDaemon(machine, runtime, 2);
  await startConnector(machine, { runtimeDirectory: runtime, network: { neverProxy: ['10.201.9.9/32'] } });
  assert.notEqual(await stateOf(machine, runtime), before);
  // Who started it stops with it, and would not take note of its end: nobody but the kernel brings that about.
  void daemon.kill('SIGSTOP');
  let left = '';
  await waitFor('the machine to be as before', goneLimitMs, async () => {
    left = await stateOf(machine, runtime);
    return left === before ? true : undefined;
  }).catch(() => undefined);
  assert.equal(left, before);
});

test('a daemon that lives is not ended, however short its limit is', async (t) => {
  const machine = await openMachine();
  t.after(() => machine.close());
  await startDaemon(machine, machine.folder, 1);
  const ask = ['status', '--uid', '0', '--runtime-dir', machine.folder, '--json'];
  const uptime = await waitFor('three times its limit', goneLimitMs, async () => {
    const { uptimeSeconds } = JSON.parse(await machine.run([process.execPath, machine.daemon, ...ask])) as {
      uptimeSeconds: number;
    };
    return uptimeSeconds > 3 ? uptimeSeconds : undefined;
  });
  assert.ok(uptime > 3);
});

/** Prints each datagram that comes to a socket, NOTIFY_SOCKET's way. Node has no such sockets. */
const listen = `
use strict; use Socket; $| = 1;
my $path = shift; (my $name = $path) =~ s/^@/\\0/;
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die; bind($socket, pack_sockaddr_un($name)) or die "bind: $!";
print "listening\\n"; while (defined recv($socket, my $text, 512, 0)) { print "$text\\n" }`;

for (const [what, path] of [
  ['a socket file', 'notify.sock'],
  ['a name without a file', '@nearfield-notify'],
] as const) {
  test(`the service manager that listens at ${what} hears that it serves, lives and stops`, async (t) => {
    const machine = await openMachine();
    t.after(() => machine.close());
    const socket = path.startsWith('@') ? path : join(machine.folder, path);
    const manager = machine.start(['perl', '-e', listen, socket]);
    assert.equal(await manager.line(), 'listening');
    const daemon = machine.start([
      ...['env', `NOTIFY_SOCKET=${socket}`, process.execPath, machine.daemon, 'run', '--uid', '0', '--gid', '0'],
      ...['--runtime-dir', machine.folder, '--hang-seconds', '2'],
    ]);
    assert.equal(await daemon.line(), 'ready');
    const heard = [await manager.line()];
    while (heard.filter((line) => line === 'WATCHDOG=1').length < 2) {
      heard.push(await manager.line());
    }
    assert.ok(heard.includes('READY=1'), heard.join());
    // The janitor must not speak for it.
    const environments = await machine.run(['sh', '-c', 'cat /proc/$(pgrep -f nearfield-janitor | head -1)/environ']);
    assert.ok(environments.includes('PATH=') && !environments.includes('NOTIFY_SOCKET'), environments);
    await daemon.kill('SIGTERM');
    for (let line = ''; line !== 'STOPPING=1'; ) {
      line = await manager.line();
    }
  });
}
