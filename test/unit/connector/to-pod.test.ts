import assert from 'node:assert/strict';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { afterEach, test } from 'node:test';
import { type Disposable, silentLogger } from '../../../src/base/index.ts';
import { openToPod } from '../../../src/connector/intercept/to-pod.ts';
import { ClusterDialer } from '../../../src/connector/outbound/dial.ts';
import { type Answer, type FakeTunnels, openFakeTunnels } from '../../support/fake-tunnels.ts';
import { HandClock } from '../manager/hand-clock.ts';

const limit = { timeout: 10_000 };

let tunnels: FakeTunnels | undefined;
let opened: Disposable | undefined;
const udp: UdpSocket[] = [];

afterEach(async () => {
  for (const socket of udp.splice(0)) {
    socket.close();
  }
  await opened?.dispose();
  await tunnels?.close();
});

async function start(answer: () => Answer, protocol: 'TCP' | 'UDP', podIp = (): string => '10.0.0.7') {
  const clock = new HandClock();
  tunnels = await openFakeTunnels(answer, clock);
  const dialer = new ClusterDialer(tunnels.deps);
  const port = await freePort();
  opened = await openToPod({ clock, log: silentLogger, dialer, podIp }, [{ port, protocol }]);
  return { clock, port, tunnels };
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

async function sender(): Promise<UdpSocket> {
  const socket = createSocket('udp4');
  udp.push(socket);
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

test('a port of this machine leads to the same port of the pod, wherever that is now', limit, async () => {
  const addresses = ['10.0.0.7', '10.0.0.8'];
  const answer = (): Answer => ({ kind: 'program', onSocket: (socket) => socket.end('from the pod') });
  const { port, tunnels } = await start(answer, 'TCP', () => addresses.shift() ?? '');
  for (const address of ['10.0.0.7', '10.0.0.8']) {
    const socket = connect(port, '127.0.0.1');
    const [text] = (await once(socket, 'data')) as [Buffer];
    assert.equal(text.toString(), 'from the pod');
    socket.destroy();
    assert.equal(tunnels.asked.at(-1), `tcp ${address}:${port}`);
  }
});

test('while there is no pod, connections are reset', limit, async () => {
  const { port } = await start(
    () => ({ kind: 'silent' }),
    'TCP',
    () => '',
  );
  const socket = connect(port, '127.0.0.1');
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
});

test('datagrams of two senders are two flows, and answers find their sender', limit, async () => {
  const { port, tunnels } = await start(() => ({ kind: 'echo' }), 'UDP');
  const [a, b] = [await sender(), await sender()];
  for (const [socket, text] of [
    [a, 'from a'],
    [b, 'from b'],
    [a, 'again'],
  ] as const) {
    const answered = once(socket, 'message');
    socket.send(text, port, '127.0.0.1');
    const [bytes] = (await answered) as [Buffer];
    assert.equal(bytes.toString(), text);
  }
  assert.deepEqual(tunnels.asked, [`udp 10.0.0.7:${port}`, `udp 10.0.0.7:${port}`]);
});

test('a flow that was idle for a minute is ended', limit, async () => {
  const { port, tunnels, clock } = await start(() => ({ kind: 'echo' }), 'UDP');
  const socket = await sender();
  const answered = once(socket, 'message');
  socket.send('x', port, '127.0.0.1');
  await answered;
  assert.equal(tunnels.open, 1);
  clock.advance(70_000);
  await until(() => tunnels.open === 0);
});

test('a port that is taken is said, and the others are given back', limit, async () => {
  const clock = new HandClock();
  tunnels = await openFakeTunnels(() => ({ kind: 'echo' }), clock);
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as { port: number };
  const first = await freePort();
  const deps = { clock, log: silentLogger, dialer: new ClusterDialer(tunnels.deps), podIp: () => '10.0.0.7' };
  const ports = [first, port].map((each) => ({ port: each, protocol: 'TCP' }) as const);
  await assert.rejects(openToPod(deps, ports), { reason: 'connector.port-taken' });
  taken.close();
  opened = await openToPod(deps, ports);
});

async function until(isSo: () => boolean): Promise<void> {
  for (let turn = 0; !isSo() && turn < 20_000; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(isSo());
}
