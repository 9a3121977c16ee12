import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer as createHttp2Server } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Emitter, parseIp, silentLogger, systemClock } from '../../src/base/index.ts';
import { DaemonLink } from '../../src/connector/daemon-link/link.ts';
import { Daemon } from '../../src/daemon/daemon.ts';
import type { Platform } from '../../src/daemon/os/contract.ts';
import { FakeTun } from '../../src/daemon/tun/fake.ts';
import { daemonSocketPaths } from '../../src/protocol/index.ts';
import { openHttp2, pingNow } from '../../src/protocol/transport/index.ts';
import { waitFor } from '../cluster/shell.ts';
import { fakeNetwork } from '../support/fake-connector.ts';
import { HandClock } from '../unit/manager/hand-clock.ts';

const uid = process.getuid?.() ?? 0;

/** A machine that counts what is done to it. */
function fakePlatform(done: string[]): Platform {
  return {
    deviceName: () => 'fake0',
    openDevice: () => new FakeTun(),
    createNetwork: () => ({
      routes: async () => [],
      apply: async () => void done.push('routes'),
      clear: async () => undefined,
      onNetworkChanged: new Emitter<void>().event,
      dispose: () => undefined,
    }),
    createResolver: async () => ({
      kind: 'fake',
      apply: async () => void done.push('resolver'),
      clear: async () => undefined,
    }),
    firewall: { open: async () => undefined, close: async () => undefined },
    peerOf: () => uid,
    trim: () => undefined,
    resolvers: async () => [parseIp('192.0.2.53') ?? new Uint8Array(4)],
    cleanUp: async () => undefined,
  };
}

test('after sleep the network is applied again, and the windows are told', async (t) => {
  const runtimeDirectory = await mkdtemp(join(tmpdir(), 'nearfield-wake-'));
  t.after(() => rm(runtimeDirectory, { recursive: true, force: true }));
  const clock = new HandClock();
  const done: string[] = [];
  let asleepMs = 0;
  const daemon = new Daemon(
    { clock, log: silentLogger, platform: fakePlatform(done), bootMs: () => clock.nowMs() + asleepMs },
    { uid, gid: process.getgid?.() ?? 0, runtimeDirectory, idleExitMs: 0 },
  );
  await daemon.start();
  t.after(() => daemon.stop());
  const link = await DaemonLink.open(daemonSocketPaths(uid, runtimeDirectory), systemClock);
  t.after(() => link.close());
  await link.apply(fakeNetwork());
  done.length = 0;
  let woken = 0;
  link.onMachineWoken(() => woken++);
  clock.advance(2_000);
  await link.status();
  assert.deepEqual([woken, done], [0, []]);
  asleepMs = 3_600_000;
  clock.advance(1_000);
  await waitFor('the network', 5_000, async () => (done.length >= 2 && woken === 1 ? true : undefined));
  assert.deepEqual(done, ['routes', 'resolver']);
});

test('after sleep a far side that is gone is noticed within seconds, and one that answers stays', async (t) => {
  const clock = new HandClock();
  const server = createHttp2Server();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  // What lies between falls silent, as a NAT does that has forgotten the connection.
  let isSilent = false;
  const sockets: Socket[] = [];
  const between = createServer((near) => {
    const far = connect((server.address() as AddressInfo).port, '127.0.0.1');
    sockets.push(near, far);
    near.on('data', (chunk) => isSilent || far.write(chunk));
    far.on('data', (chunk) => isSilent || near.write(chunk));
  }).listen(0, '127.0.0.1');
  await once(between, 'listening');
  t.after(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    between.close();
    server.close();
  });
  const session = await openHttp2({ host: '127.0.0.1', port: (between.address() as AddressInfo).port }, { clock });
  t.after(() => session.destroy());
  const idle = clock.timers;
  pingNow(session, clock);
  await waitFor('the answer', 5_000, async () => (clock.timers === idle ? true : undefined));
  assert.equal(session.destroyed, false);
  isSilent = true;
  pingNow(session, clock);
  clock.advance(3_000);
  assert.equal(session.destroyed, true);
});
