import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { duplexPair } from 'node:stream';
import { after, before, test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { type NearfieldError, systemClock } from '../../src/base/index.ts';
import { parseStreamInfo, serializeStreamInfo, serializeStreamOk, tunnelCode, wire } from '../../src/protocol/index.ts';
import {
  createCallTransport,
  createGrpcServer,
  openHttp2,
  openTunnel,
  relaySocket,
  type TunnelStream,
} from '../../src/protocol/transport/index.ts';

// Connector and manager ends of the tunnel in one process: a local program ↔ relay ↔ HTTP/2 ↔ relay ↔ a server.
let destination: Server;
let front: Server;
let grpc: ReturnType<typeof createGrpcServer>;
let session: Awaited<ReturnType<typeof openHttp2>>;
let onDestination: (socket: Socket) => void = () => undefined;
let lastClose: Promise<NearfieldError | undefined>;

const listen = async (server: Server): Promise<number> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

before(async () => {
  destination = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    onDestination(socket);
  });
  const destinationPort = await listen(destination);
  grpc = createGrpcServer({
    clock: systemClock,
    service: 'manager',
    routes: (router) => router.service(wire.Manager, { version: () => ({ name: 'test', version: 'v2.24.0' }) }),
    acceptTunnel(stream) {
      const socket = connect({ port: destinationPort, host: '127.0.0.1', allowHalfOpen: true });
      const relay = relaySocket(socket, stream);
      stream.start({
        ...relay,
        onControl(code, body) {
          if (code === tunnelCode.streamInfo) {
            assert.equal(parseStreamInfo(body)?.sessionId, 's');
            stream.vouch();
            stream.send(tunnelCode.streamOk, serializeStreamOk());
            stream.send(tunnelCode.dialOk);
          } else {
            relay.onControl(code, body);
          }
        },
      });
    },
  });
  session = await openHttp2({ host: '127.0.0.1', port: await grpc.listen(0, '127.0.0.1') }, { clock: systemClock });
  front = createServer({ allowHalfOpen: true }, (socket) => {
    const stream = openTunnel(session, 'manager');
    const local = Uint8Array.of(127, 0, 0, 1);
    const id = { protocol: 'tcp', source: local, sourcePort: 1, destination: local, destinationPort: 2 } as const;
    stream.send(
      tunnelCode.streamInfo,
      serializeStreamInfo({ roundtripLatencyMs: 1, dialTimeoutMs: 1000, id, sessionId: 's' }),
    );
    lastClose = new Promise((resolve) => {
      stream.start(relaySocket(socket, stream, { onClosed: resolve }));
    });
  });
  await listen(front);
});

after(async () => {
  session.destroy();
  await grpc.close();
  front.close();
  destination.close();
});

const open = (): Socket =>
  connect({ port: (front.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) {
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

const limit = { timeout: 20_000 };

test('a call and a tunnel share one session', limit, async () => {
  const version = await createClient(wire.Manager, createCallTransport(session)).version({});
  assert.equal(version.name, 'test');
});

test('bytes arrive unchanged, and a half-close travels without closing the other direction', limit, async () => {
  const sent = randomBytes(3_000_001);
  onDestination = (socket) => {
    void readAll(socket).then((got) => socket.end(createHash('sha256').update(got).digest('hex')));
  };
  const socket = open();
  socket.end(sent);
  assert.equal((await readAll(socket)).toString(), createHash('sha256').update(sent).digest('hex'));
  assert.equal(await lastClose, undefined);
});

test('a reset at the far end is a reset here, not an end', limit, async () => {
  onDestination = (socket) => {
    socket.write('partial');
    socket.once('data', () => socket.resetAndDestroy());
  };
  const socket = open();
  const failed = once(socket, 'error');
  socket.once('data', () => socket.write('now'));
  const [error] = await failed;
  assert.equal((error as NodeJS.ErrnoException).code, 'ECONNRESET');
});

test('a reset here is a reset at the far end', limit, async () => {
  const failed = new Promise<string | undefined>((resolve) => {
    onDestination = (socket) => {
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
      socket.write('hello');
      socket.resume();
    };
  });
  const socket = open();
  socket.on('error', () => undefined);
  await once(socket, 'data');
  socket.resetAndDestroy();
  assert.equal(await failed, 'ECONNRESET');
});

test('a reader that does not read stops the writer at the far end, and loses nothing', limit, async () => {
  const total = 64 * 1024 * 1024;
  let written = 0;
  let stalled: () => void = () => undefined;
  const stall = new Promise<void>((resolve) => {
    stalled = resolve;
  });
  onDestination = (socket) => {
    const block = Buffer.alloc(65_536);
    const pump = (): void => {
      while (written < total) {
        written += block.length;
        if (!socket.write(block)) {
          const quiet = systemClock.after(500, () => stalled());
          socket.once('drain', () => {
            void quiet.dispose();
            pump();
          });
          return;
        }
      }
      socket.end();
    };
    pump();
  };
  const socket = open();
  socket.pause();
  await stall;
  assert.ok(written < total, `the writer went on to ${written} bytes`);
  let read = 0;
  socket.on('data', (chunk) => {
    read += chunk.length;
  });
  socket.resume();
  await once(socket, 'end');
  assert.equal(read, total);
  socket.destroy();
});

/** Sends eight megabytes, and resolves when as many have come. */
function pourBothWays(stream: TunnelStream): Promise<void> {
  const total = 8 * 1024 * 1024;
  return new Promise((resolve, reject) => {
    const block = new Uint8Array(65_536);
    let [sent, received] = [0, 0];
    const pour = (): void => {
      while (sent < total) {
        sent += block.length;
        if (!stream.sendData(block)) {
          return;
        }
      }
    };
    stream.start({
      onControl: () => undefined,
      onData(slice) {
        received += slice.length;
        if (received === total) {
          resolve();
        }
      },
      onEnd: () => undefined,
      onDrain: pour,
      onClose: reject,
    });
    pour();
  });
}

for (const [what, isForwarded] of [
  ['a port-forward', true],
  ['a bare connection', false],
] as const) {
  test(`bulk in both directions at once does not stand still over ${what}`, limit, async (t) => {
    const other = createGrpcServer({
      clock: systemClock,
      service: 'manager',
      routes: () => undefined,
      acceptTunnel: (stream) => void pourBothWays(stream).catch(() => undefined),
    });
    t.after(() => other.close());
    const address = { port: await other.listen(0, '127.0.0.1'), host: '127.0.0.1' };
    const [near, far] = duplexPair();
    if (isForwarded) {
      // Nothing between the ends takes more than a little.
      const socket = connect(address);
      t.after(() => void socket.destroy());
      socket.pipe(far).pipe(socket);
    }
    const both = await openHttp2(isForwarded ? near : address, { clock: systemClock });
    t.after(() => both.destroy());
    await Promise.all(Array.from({ length: 20 }, () => pourBothWays(openTunnel(both, 'manager'))));
  });
}

test('a server that gives its sessions up is a reset here, not an end', limit, async () => {
  const other = createGrpcServer({
    clock: systemClock,
    service: 'manager',
    routes: () => undefined,
    acceptTunnel(stream) {
      const none = (): void => undefined;
      stream.start({ onControl: none, onData: none, onEnd: none, onDrain: none, onClose: none });
      stream.sendData(Buffer.from('partial'));
    },
  });
  const broken = await openHttp2(
    { host: '127.0.0.1', port: await other.listen(0, '127.0.0.1') },
    { clock: systemClock },
  );
  const seen: string[] = [];
  // The last stream of a session ends otherwise than those before it.
  const streams = ['first', 'last'].map(
    (which) =>
      new Promise<void>((resolve) => {
        openTunnel(broken, 'manager').start({
          onControl: () => undefined,
          onData(slice) {
            seen.push(`${which} ${Buffer.from(slice)}`);
            if (which === 'last') {
              setImmediate(() => void other.close());
            }
          },
          onEnd: () => seen.push(`${which} end`),
          onDrain: () => undefined,
          onClose(error) {
            seen.push(`${which} ${error ? 'broken' : 'closed'}`);
            resolve();
          },
        });
      }),
  );
  await Promise.all(streams);
  broken.destroy();
  assert.deepEqual(seen.toSorted(), ['first broken', 'first partial', 'last broken', 'last partial']);
});

test('thousands of tunnels that are given up at once do not end the session of the others', limit, async () => {
  const tunnels = Array.from({ length: 3_000 }, () => openTunnel(session, 'manager'));
  const closed = tunnels.map(
    (stream) =>
      new Promise<void>((resolve) => {
        const none = (): void => undefined;
        stream.start({ onControl: none, onData: none, onEnd: none, onDrain: none, onClose: () => resolve() });
      }),
  );
  await createClient(wire.Manager, createCallTransport(session)).version({});
  for (const stream of tunnels) {
    stream.reset();
  }
  await Promise.all(closed);
  const version = await createClient(wire.Manager, createCallTransport(session)).version({});
  assert.equal(version.name, 'test');
});
