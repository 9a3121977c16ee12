import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { type AddressInfo, connect, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { after, before, test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { parseIp, systemClock } from '../../../src/base/index.ts';
import { type StreamInfo, serializeStreamInfo, tunnelCode, wire } from '../../../src/protocol/index.ts';
import {
  createCallTransport,
  createGrpcServer,
  type Mux,
  openHttp2,
  openMux,
  openTunnel,
  type TunnelStream,
} from '../../../src/protocol/transport/index.ts';
import { FakeCluster } from './fake-cluster.ts';
import { fakeManager } from './fake-manager.ts';
import { settled } from './hand-clock.ts';
import { agentInfo, clientInfo } from './messages.ts';

const parts = fakeManager(new FakeCluster());
const grpc = createGrpcServer({
  clock: systemClock,
  service: 'manager',
  routes: parts.routes,
  acceptTunnel: (...call) => parts.router.accept(...call),
  mux: parts.router.mux,
});
let port = 0;
let mux: Mux | undefined;
let session: Awaited<ReturnType<typeof openHttp2>>;
const limit = { timeout: 10_000 };
/** Loopback is out of reach for clients. */
const hostAddress =
  Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '';

before(async () => {
  parts.store.addClient('ann', clientInfo());
  parts.store.addAgent('agent:1', agentInfo());
  port = await grpc.listen(0, '127.0.0.1');
  session = await openHttp2({ host: '127.0.0.1', port }, { clock: systemClock });
  mux = await carry('ann');
});

after(async () => {
  session.destroy();
  await grpc.close();
});

const carry = (sessionId: string): Promise<Mux | undefined> =>
  openMux(connect(port, '127.0.0.1'), { clock: systemClock, sessionId, signal: new AbortController().signal });

interface Heard {
  readonly stream: TunnelStream;
  readonly log: string[];
  readonly closed: Promise<void>;
  until(entry: string): Promise<void>;
}

const streamInfo = (sessionId: string, to: string, port: number, protocol: 'tcp' | 'udp' = 'tcp'): StreamInfo => ({
  sessionId,
  roundtripLatencyMs: 1,
  dialTimeoutMs: 2_000,
  id: {
    protocol,
    source: Uint8Array.of(10, 0, 0, 1),
    sourcePort: 40_000,
    destination: parseIp(to) ?? new Uint8Array(4),
    destinationPort: port,
  },
});

function open(info: StreamInfo): Heard {
  const stream = openTunnel(session, 'manager');
  stream.send(tunnelCode.streamInfo, serializeStreamInfo(info));
  return listenTo(stream);
}

function openCarried(info: StreamInfo): Heard {
  const stream = mux?.open(info);
  assert.ok(stream);
  return listenTo(stream);
}

function listenTo(stream: TunnelStream): Heard {
  const log: string[] = [];
  const waiting = new Map<string, () => void>();
  const closed = Promise.withResolvers<void>();
  const note = (entry: string): void => {
    log.push(entry);
    waiting.get(entry)?.();
  };
  stream.start({
    onControl: (code) => note(Object.entries(tunnelCode).find(([, each]) => each === code)?.[0] ?? '?'),
    onData: (slice) => note(`data ${Buffer.from(slice).toString()}`),
    onEnd: () => note('end'),
    onDrain: () => undefined,
    onClose: () => closed.resolve(),
  });
  return {
    stream,
    log,
    closed: closed.promise,
    until: (entry) => (log.includes(entry) ? Promise.resolve() : new Promise((resolve) => waiting.set(entry, resolve))),
  };
}

for (const address of ['127.0.0.1', '::1', '0.0.0.0', '169.254.169.254', '224.0.0.1', 'fe80::1', '::ffff:127.0.0.1']) {
  for (const protocol of ['tcp', 'udp'] as const) {
    test(`a client does not reach ${address} of the manager by ${protocol}`, limit, async () => {
      const info = streamInfo('ann', address, 22, protocol);
      for (const { stream, log, until, closed } of [open(info), openCarried(info)]) {
        await until('end');
        stream.endSend();
        await closed;
        assert.deepEqual(
          log.filter((each) => each !== 'streamOk'),
          ['dialReject', 'end'],
        );
        assert.equal(stream.result, 'prohibited');
      }
    });
  }
}

test('a stream of an unknown session is refused', limit, async () => {
  const { stream, log, until } = open(streamInfo('nobody', '10.0.0.7', 80));
  await until('end');
  assert.ok(log.includes('dialReject'));
  stream.reset();
});

test('tunnels in one stream are for clients, and each for the session that it was opened for', limit, async () => {
  await assert.rejects(carry('nobody'), { code: 'permission_denied' });
  await assert.rejects(carry('agent:1'), { code: 'permission_denied' });
  parts.store.addClient('bob', clientInfo());
  const { stream, until, closed } = openCarried(streamInfo('bob', '10.0.0.7', 80));
  await until('dialReject');
  await closed;
  assert.equal(stream.result, 'prohibited');
});

test('tunnels in one stream end with their session', limit, async () => {
  parts.store.addClient('cat', clientInfo());
  const carried = await carry('cat');
  parts.store.remove('cat');
  assert.equal((await carried?.closed)?.reason, 'protocol.stream-broken');
  await assert.rejects(carry('cat'), { code: 'permission_denied' });
});

test('a session has one stream: who asks for another has lost the first', limit, async () => {
  parts.store.addClient('dan', clientInfo());
  const [first, second] = [await carry('dan'), await carry('dan')];
  assert.ok(await first?.closed);
  const stream = second?.open(streamInfo('dan', '127.0.0.1', 80));
  assert.ok(stream);
  await listenTo(stream).until('dialReject');
});

for (const way of [open, openCarried]) {
  test(`bytes pass both ways, and each end of its own (${way.name})`, limit, async () => {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('data', (chunk) => socket.write(`you said ${chunk}`));
      socket.on('end', () => socket.end('bye'));
    });
    await new Promise<void>((resolve) => server.listen(0, hostAddress, resolve));
    const { port } = server.address() as AddressInfo;
    const { stream, log, until, closed } = way(streamInfo('ann', hostAddress, port));
    await until('dialOk');
    stream.sendData(Buffer.from('hello'));
    await until('data you said hello');
    stream.endSend();
    await closed;
    server.close();
    assert.deepEqual(
      log.filter((each) => each !== 'streamOk'),
      ['dialOk', 'data you said hello', 'data bye', 'end'],
    );
  });

  test(`datagrams pass both ways, and a port that is closed meanwhile is told (${way.name})`, limit, async () => {
    const server = createSocket('udp4');
    server.on('message', (message, { port, address }) => server.send(`you said ${message}`, port, address));
    await new Promise<void>((resolve) => server.bind(0, hostAddress, resolve));
    const before = parts.metrics.tunnels.open;
    const { stream, until, closed } = way(streamInfo('ann', hostAddress, server.address().port, 'udp'));
    await until('dialOk');
    stream.sendData(Buffer.from('hello'));
    await until('data you said hello');
    assert.equal(parts.metrics.tunnels.open, before + 1);
    await new Promise<void>((resolve) => server.close(resolve));
    // The kernel answers for the port (ICMP).
    stream.sendData(Buffer.from('still there?'));
    await until('dialReject');
    stream.endSend();
    await closed;
    assert.equal(stream.result, 'refused');
    while (parts.metrics.tunnels.open > before) {
      await settled();
    }
  });

  test(`a port where nobody listens is refused (${way.name})`, limit, async () => {
    const { stream, until, closed } = way(streamInfo('ann', hostAddress, 1));
    await until('dialReject');
    stream.endSend();
    await closed;
    assert.equal(stream.result, 'refused');
  });
}

test('a stream that does not begin with its info is reset', limit, async () => {
  const stream = openTunnel(session, 'manager');
  const closed = Promise.withResolvers<string | undefined>();
  stream.send(tunnelCode.dialOk);
  stream.start({
    onControl: () => undefined,
    onData: () => undefined,
    onEnd: () => undefined,
    onDrain: () => undefined,
    onClose: (error) => closed.resolve(error?.reason),
  });
  assert.ok(await closed.promise);
});

test('an agent’s connection reaches the client that listens, and bytes pass both ways', limit, async () => {
  const manager = createClient(wire.Manager, createCallTransport(session));
  const controller = new AbortController();
  const requests = manager.watchDial({ sessionId: 'ann' }, { signal: controller.signal })[Symbol.asyncIterator]();
  const request = requests.next();
  // The watch has no first message: any later call on the session finds it listening.
  await manager.version({});
  const agent = open(streamInfo('agent:1', '127.0.0.1', 3000));
  agent.stream.send(tunnelCode.session, Buffer.from('ann'));
  const { value } = await request;
  assert.equal(value?.connId.length, 13);
  const client = open(streamInfo('ann', '127.0.0.1', 3000));
  client.stream.send(tunnelCode.dialOk);
  await agent.until('dialOk');
  agent.stream.sendData(Buffer.from('ping'));
  await client.until('data ping');
  client.stream.sendData(Buffer.from('pong'));
  await agent.until('data pong');
  agent.stream.endSend();
  await client.until('end');
  client.stream.endSend();
  await Promise.all([agent.closed, client.closed]);
  assert.deepEqual(client.log, ['streamOk', 'data ping', 'end'], 'what the agent tells the manager stays there');
  controller.abort();
});

test('an agent’s connection is refused at once when its client does not listen', limit, async () => {
  const agent = open(streamInfo('agent:1', '127.0.0.1', 3001));
  agent.stream.send(tunnelCode.session, Buffer.from('ann-is-away'));
  await agent.until('dialReject');
  agent.stream.endSend();
  await agent.closed;
});

test('an agent’s connection is given up at once when its client goes before it has fetched it', limit, async () => {
  const manager = createClient(wire.Manager, createCallTransport(session));
  const controller = new AbortController();
  const requests = manager.watchDial({ sessionId: 'ann' }, { signal: controller.signal })[Symbol.asyncIterator]();
  const request = requests.next();
  await manager.version({});
  const agent = open(streamInfo('agent:1', '127.0.0.1', 3002));
  agent.stream.send(tunnelCode.session, Buffer.from('ann'));
  await request;
  const started = performance.now();
  controller.abort();
  await agent.closed;
  // By itself it would have waited for the dial and some seconds more.
  assert.ok(performance.now() - started < 2_000);
});
