import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { createLogger, type LogLine, systemClock } from '../../../src/base/index.ts';
import { wire } from '../../../src/protocol/index.ts';
import {
  type Caller,
  callerKey,
  createCallTransport,
  createGrpcServer,
  type GrpcServer,
  http2Upgrade,
  openHttp2,
} from '../../../src/protocol/transport/index.ts';

// What the API server's proxy brings begins as HTTP/1.1, and is HTTP/2 from then on.

const limit = { timeout: 20_000 };
const lines: LogLine[] = [];
const open: { destroy(): void }[] = [];
let callers: Caller[] = [];
let server: GrpcServer;
let port = 0;

before(async () => {
  server = createGrpcServer({
    clock: systemClock,
    log: createLogger({ sink: (line) => void lines.push(line), wallMs: () => 0 }),
    service: 'manager',
    acceptTunnel: () => undefined,
    routes: (router) =>
      router.service(wire.Manager, {
        version: (_request, { values }) => {
          callers.push(values.get(callerKey));
          return { name: 'it', version: 'v2.24.0' };
        },
      }),
  });
  port = await server.listen(0, '127.0.0.1');
});
after(() => server.close());
afterEach(() => {
  callers = [];
  for (const each of open.splice(0)) {
    each.destroy();
  }
});

/** As the API server asks, which waits for the answer before it hands on anything. */
async function upgraded(path: string = http2Upgrade.path, protocol: string = http2Upgrade.protocol): Promise<Socket> {
  const asked = request({ host: '127.0.0.1', port, path, headers: { connection: 'Upgrade', upgrade: protocol } });
  open.push(asked);
  asked.end();
  const [, socket, head] = (await once(asked, 'upgrade')) as [unknown, Socket, Buffer];
  if (head.length > 0) {
    socket.unshift(head);
  }
  return socket;
}

async function askVersion(over: Socket | { host: string; port: number }): Promise<string> {
  const session = await openHttp2(over, { clock: systemClock });
  open.push(session);
  return (await createClient(wire.Manager, createCallTransport(session)).version({}, { timeoutMs: 5_000 })).name;
}

test('a connection that the API server brings is served like any other', limit, async () => {
  assert.equal(await askVersion(await upgraded()), 'it');
  assert.equal(await askVersion({ host: '127.0.0.1', port }), 'it');
});

test('what comes in one piece with the request for the upgrade is not lost', limit, async () => {
  const socket = connect({ host: '127.0.0.1', port });
  open.push(socket);
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0';
  socket.write(
    `GET ${http2Upgrade.path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${http2Upgrade.protocol}\r\n\r\n${preface}`,
    'latin1',
  );
  const settingsAcknowledged = Buffer.from([0, 0, 0, 4, 1, 0, 0, 0, 0]);
  let said = Buffer.alloc(0);
  while (!said.includes(settingsAcknowledged)) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    said = Buffer.concat([said, chunk]);
  }
});

test('nobody is known by the address of whoever brought them', limit, async () => {
  await askVersion(await upgraded());
  await askVersion({ host: '127.0.0.1', port });
  assert.deepEqual(callers, [{ address: '', broughtBy: '127.0.0.1' }, { address: '127.0.0.1' }]);
});

for (const [what, path, protocol] of [
  ['another path', '/metrics', http2Upgrade.protocol],
  ['another protocol', http2Upgrade.path, 'websocket'],
] as const) {
  test(`${what} is not taken`, limit, async () => {
    await assert.rejects(upgraded(path, protocol), { code: 'ECONNRESET' });
    assert.equal(await askVersion({ host: '127.0.0.1', port }), 'it');
  });
}

test('a plain request is answered with “not found”, and said in the log', limit, async () => {
  const asked = request({ host: '127.0.0.1', port, path: '/' });
  asked.end();
  const [response] = await once(asked, 'response');
  open.push(response);
  assert.equal(response.statusCode, 404);
  assert.ok(lines.some(({ fields }) => fields?.['what'] === 'a request that is none of ours'));
});

test('a head without an end is given up', limit, async () => {
  const socket = connect({ host: '127.0.0.1', port });
  open.push(socket);
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.write(`GET / HTTP/1.1\r\nx: ${'y'.repeat(64 * 1024)}`);
  await closed;
});
