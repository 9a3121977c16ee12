import assert from 'node:assert/strict';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { parseIp } from '../../../src/base/index.ts';
import { isUdpPortBound, listensAt } from '../../../src/connector/inbound/udp-ports.ts';
import type { ManagerSession } from '../../../src/connector/session/session.ts';
import { type ConnId, tunnelCode } from '../../../src/protocol/index.ts';
import { type Fetched, ScriptedManager } from '../../support/scripted-manager.ts';

const limit = { timeout: 10_000 };
const { dialOk, dialReject, disconnect } = tunnelCode;

let manager: ScriptedManager;
let session: ManagerSession;
const servers: Server[] = [];
const sockets: UdpSocket[] = [];
const open = new Set<Socket>();

async function start(isAllowed = (_host: string, _port: number, _protocol: string): boolean => true): Promise<void> {
  manager = await ScriptedManager.open();
  session = await manager.connect({ isAllowed });
}

afterEach(async () => {
  for (const socket of open) {
    socket.destroy();
  }
  for (const server of servers.splice(0)) {
    server.close();
  }
  for (const socket of sockets.splice(0)) {
    socket.close();
  }
  await session.close();
  await manager.close();
});

/** A local program; answers its port. */
async function program(serve: (socket: Socket) => void, host = '127.0.0.1'): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    serve(socket);
  });
  servers.push(server);
  server.listen(0, host);
  await once(server, 'listening');
  return (server.address() as { port: number }).port;
}

async function datagramProgram(serve: (text: string) => string | undefined): Promise<number> {
  const socket = createSocket('udp4');
  sockets.push(socket);
  socket.on('message', (bytes, { port, address }) => {
    const answer = serve(bytes.toString());
    if (answer !== undefined) {
      socket.send(answer, port, address);
    }
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket.address().port;
}

/** A port that nobody has: one that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

const callerOf = (port: number, protocol: ConnId['protocol'] = 'tcp', sourcePort = 40_000): ConnId => ({
  protocol,
  source: parseIp('10.0.0.9') ?? new Uint8Array(4),
  sourcePort,
  destination: parseIp('127.0.0.1') ?? new Uint8Array(4),
  destinationPort: port,
});

/** Dials and waits until the client has said how that went. */
async function fetchFrom(id: ConnId): Promise<Fetched> {
  const count = manager.fetched.length;
  manager.dial(id);
  await until(() => (manager.fetched[count]?.codes.length ?? 0) > 0);
  return manager.fetched[count] as Fetched;
}

test('a caller’s connection is fetched and joined with the local program', limit, async () => {
  await start();
  const port = await program((socket) => socket.on('data', (chunk) => socket.end(`laptop heard ${chunk}`)));
  const fetched = await fetchFrom(callerOf(port));
  assert.deepEqual(fetched.codes, [dialOk]);
  assert.equal(fetched.info.sessionId, 'session');
  fetched.stream.sendData(Buffer.from('hello'));
  await until(() => fetched.isEnded);
  assert.equal(fetched.data.join(''), 'laptop heard hello');
});

test('a program that refuses is told to the cluster, where the application answers', limit, async () => {
  await start();
  const fetched = await fetchFrom(callerOf(await freePort()));
  await until(() => fetched.isEnded);
  assert.deepEqual(fetched.codes, [dialReject]);
});

test('a program that listens on the IPv6 loopback alone is found', limit, async () => {
  await start();
  const port = await program((socket) => socket.end('six'), '::1');
  const fetched = await fetchFrom(callerOf(port));
  await until(() => fetched.isEnded);
  assert.deepEqual(fetched.codes, [dialOk]);
  assert.deepEqual(fetched.data, ['six']);
});

test('what is not attached is not dialled, neither by TCP nor by UDP', limit, async () => {
  const asked: string[] = [];
  await start((host, port, protocol) => {
    asked.push(`${host}:${port}/${protocol}`);
    return false;
  });
  let calls = 0;
  const port = await program(() => calls++);
  for (const protocol of ['tcp', 'udp'] as const) {
    const fetched = await fetchFrom(callerOf(port, protocol));
    assert.deepEqual(fetched.codes, [dialReject]);
  }
  assert.equal(calls, 0);
  assert.deepEqual(asked, [`127.0.0.1:${port}/TCP`, `127.0.0.1:${port}/UDP`]);
});

test('two hundred connections at once each get their own answer', limit, async () => {
  await start();
  const port = await program((socket) => socket.on('data', (chunk) => socket.end(`for ${chunk}`)));
  const all = await fetchAll(200, port);
  for (const [index, fetched] of all.entries()) {
    fetched.stream.sendData(Buffer.from(String(index)));
  }
  await until(() => all.every(({ isEnded }) => isEnded));
  assert.deepEqual(
    all.map(({ data }) => data.join('')),
    all.map((_, index) => `for ${index}`),
  );
});

async function fetchAll(count: number, port: number): Promise<readonly Fetched[]> {
  await fetchFrom(callerOf(port, 'tcp', 1)).then(({ stream }) => stream.reset());
  for (let index = 0; index < count; index++) {
    manager.dial(callerOf(port, 'tcp', 10_000 + index));
  }
  await until(() => manager.fetched.slice(1).filter(({ codes }) => codes.length > 0).length === count);
  return manager.fetched.slice(1);
}

test('datagrams come to the local program one by one, and its answers go back', limit, async () => {
  await start();
  const port = await datagramProgram((text) => `laptop heard ${text}`);
  const fetched = await fetchFrom(callerOf(port, 'udp'));
  assert.deepEqual(fetched.codes, [dialOk]);
  for (const text of ['one', 'two']) {
    fetched.stream.sendData(Buffer.from(text));
  }
  await until(() => fetched.data.length === 2);
  assert.deepEqual(fetched.data, ['laptop heard one', 'laptop heard two']);
});

test('a UDP port that nobody has is refused before a datagram is lost', {
  ...limit,
  skip: process.platform !== 'linux' && 'the table of ports is Linux’s',
}, async () => {
  await start();
  const fetched = await fetchFrom(callerOf(await freePort(), 'udp'));
  assert.deepEqual(fetched.codes, [dialReject]);
});

test('a UDP program that ends is told to the cluster with the next datagram', limit, async () => {
  await start();
  const port = await datagramProgram(() => 'here');
  const fetched = await fetchFrom(callerOf(port, 'udp'));
  fetched.stream.sendData(Buffer.from('one'));
  await until(() => fetched.data.length === 1);
  sockets.pop()?.close();
  fetched.stream.sendData(Buffer.from('two'));
  await until(() => fetched.isEnded);
  assert.deepEqual(fetched.codes, [dialOk, disconnect]);
});

test('the system’s table tells which UDP ports have a program', async () => {
  const table = [
    '   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode',
    '  100: 0100007F:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 1 2 0 0',
    '  101: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0',
    '  102: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0',
    '  103: 0A00000A:0050 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0',
  ].join('\n');
  assert.deepEqual(
    [5353, 53, 8080, 80, 1].map((port) => listensAt(table, port)),
    [true, true, false, false, false],
  );
  assert.equal(listensAt('  1: 00000000000000000000000001000000:0035 0:0 07', 53), true);
  assert.equal(listensAt('  1: 000080FE00000000FF005450B6AD1DFE:0035 0:0 07', 53), false);
});

test('a UDP port of this machine is seen while a program has it', {
  skip: process.platform !== 'linux' && 'the table of ports is Linux’s',
}, async () => {
  const socket = createSocket('udp6');
  socket.bind(0, '::');
  await once(socket, 'listening');
  const { port } = socket.address();
  assert.equal(await isUdpPortBound(port), true);
  socket.close();
  await once(socket, 'close');
  assert.equal(await isUdpPortBound(port), false);
});

async function until(isSo: () => boolean): Promise<void> {
  const end = performance.now() + 8_000;
  while (!isSo() && performance.now() < end) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(isSo());
}
