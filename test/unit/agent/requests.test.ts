import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, Agent as HttpAgent, request, type Server } from 'node:http';
import { createServer as createTcpServer, type Socket, type Server as TcpServer } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { emptyPlan } from '../../../src/agent/port/diversion.ts';
import { settled } from '../manager/hand-clock.ts';
import {
  attachment,
  call,
  developer,
  freePort,
  listen,
  openPort,
  type Pod,
  type Port,
  readAll,
  readUntil,
  startPod,
} from './pod.ts';

const limit = { timeout: 10_000 };
let pod: Pod;
let port: Port;
/** Requests that each program has seen, as `name METHOD /path body`. */
let seen: string[];

function program(name: string): Server {
  const server = createServer((incoming, outgoing) => {
    let body = '';
    incoming.on('data', (chunk) => {
      body += String(chunk);
    });
    incoming.on('end', () => {
      seen.push(`${name} ${incoming.method} ${incoming.url} ${body}`.trim());
      outgoing.setHeader('x-from', name);
      outgoing.end(`${name}:${body}`);
    });
  });
  server.on('upgrade', (incoming, socket) => {
    seen.push(`${name} upgrade ${incoming.url}`);
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n');
    socket.on('data', (chunk) => socket.write(`${name} ${String(chunk)}`));
    socket.on('end', () => socket.end());
    socket.on('error', () => undefined);
  });
  return server;
}

/** A program on the developer's machine. */
async function local(server: TcpServer): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket));
  pod.scope.defer(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    server.close();
  });
  return await listen(server);
}

beforeEach(async () => {
  seen = [];
  pod = await startPod();
  port = await openPort(pod, program('app'));
});
afterEach(() => pod.scope.dispose());

const forAnn = { 'x-user': 'ann' };
async function annTakesHers(): Promise<{ readonly localPort: number }> {
  const localPort = await local(program('ann'));
  await developer(pod, 'ann');
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', localPort, forAnn)] });
  return { localPort };
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

function ask(path: string, headers: Record<string, string> = {}, body = '', agent?: HttpAgent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { port: port.port, host: '127.0.0.1', path, headers, method: body ? 'POST' : 'GET', agent: agent ?? false },
      (incoming) => {
        let text = '';
        incoming.on('data', (chunk) => {
          text += String(chunk);
        });
        incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, body: text }));
        incoming.on('error', reject);
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

test('requests of one connection go where their headers say', limit, async () => {
  await annTakesHers();
  const agent = new HttpAgent({ keepAlive: true, maxSockets: 1 });
  pod.scope.defer(() => agent.destroy());
  const answers: string[] = [];
  for (const user of ['ann', 'bob', 'ann', '', 'ann']) {
    answers.push((await ask('/x', { 'x-user': user }, 'hello', agent)).body);
  }
  assert.deepEqual(answers, ['ann:hello', 'app:hello', 'ann:hello', 'app:hello', 'ann:hello']);
});

test('pipelined requests are answered in their order, wherever the answers come from', limit, async () => {
  await annTakesHers();
  const get = (path: string, user: string): string => `GET ${path} HTTP/1.1\r\nHost: web\r\nX-User: ${user}\r\n\r\n`;
  const socket = call(port.port, get('/1', 'ann') + get('/2', 'bob') + get('/3', 'ann') + get('/4', 'bob'));
  const text = await readUntil(socket, (all) => all.split('HTTP/1.1 200').length === 5 && all.endsWith(':'));
  assert.deepEqual(
    [...text.matchAll(/x-from: (\w+)/g)].map((match) => match[1]),
    ['ann', 'app', 'ann', 'app'],
  );
  socket.destroy();
});

test('the first filter that fits decides, then the one for the rest', limit, async () => {
  const [ann, bob, rest] = [await local(program('ann')), await local(program('bob')), await local(program('rest'))];
  for (const name of ['ann', 'bob', 'rest']) {
    await developer(pod, name);
  }
  port.forwarder.apply({
    filtered: [attachment('ann', ann, {}, [':path-prefix:/api']), attachment('bob', bob, { 'x-user': 'bob' })],
    whole: attachment('rest', rest),
    taps: [],
  });
  assert.equal((await ask('/api/1', { 'x-user': 'bob' })).body, 'ann:');
  assert.equal((await ask('/other?/api', { 'x-user': 'bob' })).body, 'bob:');
  assert.equal((await ask('/other')).body, 'rest:');
});

test('attaching and leaving count for the next request of a connection that is being read', limit, async () => {
  const { localPort } = await annTakesHers();
  const agent = new HttpAgent({ keepAlive: true, maxSockets: 1 });
  pod.scope.defer(() => agent.destroy());
  assert.equal((await ask('/1', forAnn, '', agent)).body, 'ann:');
  port.forwarder.apply(emptyPlan);
  assert.equal((await ask('/2', forAnn, '', agent)).body, 'app:');
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', localPort, forAnn)] });
  assert.equal((await ask('/3', forAnn, '', agent)).body, 'ann:');
});

test('when the developer’s port refuses, the application answers that very request', limit, async () => {
  await developer(pod, 'ann');
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', await freePort(), forAnn)] });
  assert.equal((await ask('/', forAnn, 'payload')).body, 'app:payload');
});

test('when the developer is gone, the application answers at once', limit, async () => {
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', 1, forAnn)] });
  assert.equal((await ask('/', forAnn, 'payload')).body, 'app:payload');
});

test('when the program breaks off without an answer, the application gets the whole request', limit, async () => {
  const localPort = await local(createTcpServer((socket) => socket.once('data', () => socket.resetAndDestroy())));
  await developer(pod, 'ann');
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', localPort, forAnn)] });
  assert.equal((await ask('/', forAnn, 'x'.repeat(10_000))).body, `app:${'x'.repeat(10_000)}`);
});

test('a request that is too long to be kept fails with the program that heard it', limit, async () => {
  let heard = 0;
  const localPort = await local(
    createTcpServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (chunk) => {
        heard += chunk.length;
        if (heard > 200_000) {
          socket.resetAndDestroy();
        }
      });
    }),
  );
  await developer(pod, 'ann');
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', localPort, forAnn)] });
  await assert.rejects(ask('/', forAnn, 'x'.repeat(300_000)));
  assert.deepEqual(seen, [], 'the application does not get half a request');
});

test('a connection that the program closed for being idle is opened again', limit, async () => {
  const server = program('ann') as Server;
  server.keepAliveTimeout = 1;
  const localPort = await local(server);
  await developer(pod, 'ann');
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', localPort, forAnn)] });
  const agent = new HttpAgent({ keepAlive: true, maxSockets: 1 });
  pod.scope.defer(() => agent.destroy());
  assert.equal((await ask('/1', forAnn, '', agent)).body, 'ann:');
  server.closeIdleConnections();
  await settled();
  assert.equal((await ask('/2', forAnn, '', agent)).body, 'ann:');
});

test('an upgrade is matched, and then the connection is its side’s', limit, async () => {
  await annTakesHers();
  for (const [user, who] of [
    ['ann', 'ann'],
    ['bob', 'app'],
  ] as const) {
    const socket = call(
      port.port,
      `GET /ws HTTP/1.1\r\nHost: web\r\nX-User: ${user}\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n`,
    );
    await readUntil(socket, (text) => text.endsWith('\r\n\r\n'));
    socket.write('GET / HTTP/1.1 is no request here');
    assert.equal(await readUntil(socket, (text) => text.endsWith('here')), `${who} GET / HTTP/1.1 is no request here`);
    socket.end();
    assert.equal(await readAll(socket), '');
  }
});

test('a caller that waits for 100 Continue hears it before it sends', limit, async () => {
  await annTakesHers();
  const socket = call(
    port.port,
    'POST / HTTP/1.1\r\nHost: web\r\nX-User: ann\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n',
  );
  assert.match(await readUntil(socket, (text) => text.endsWith('\r\n\r\n')), /^HTTP\/1\.1 100 /);
  socket.write('hello');
  assert.match(await readUntil(socket, (text) => text.endsWith('hello')), /ann:hello$/);
  socket.destroy();
});

test('chunked bodies and trailers arrive as they were sent', limit, async () => {
  await annTakesHers();
  const head = 'POST / HTTP/1.1\r\nHost: web\r\nX-User: ann\r\nTransfer-Encoding: chunked\r\n\r\n';
  const socket = call(port.port);
  for (const byte of `${head}5;note=1\r\nhello\r\nB\r\n, all of it\r\n0\r\nX-Sum: 1\r\n\r\nGET /2 HTTP/1.1\r\nHost: web\r\n\r\n`) {
    socket.write(byte);
  }
  const text = await readUntil(socket, (all) => /app:/.test(all));
  assert.match(text, /ann:hello, all of it/);
  socket.destroy();
});

for (const [what, text, status] of [
  ['two lengths', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
  ['a length twice', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n', 400],
  ['a length that is a list', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n', 400],
  ['a signed length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n', 400],
  ['chunks inside another coding', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n', 400],
  ['chunks of HTTP/1.0', 'POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
  ['a folded field', 'GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n', 400],
  ['a space before the colon', 'GET / HTTP/1.1\r\nHost : a\r\n\r\n', 400],
  ['two hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400],
  ['no host', 'GET / HTTP/1.1\r\n\r\n', 400],
  ['a lone line feed', 'GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n', 400],
  ['a NUL', 'GET / HTTP/1.1\r\nHost: a\0\r\n\r\n', 400],
  ['a chunk size that is none', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello', 400],
  [
    'a chunk that is longer than it says',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n',
    400,
  ],
  ['a head without end', `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(70_000)}\r\n\r\n`, 431],
  ['too many fields', `GET / HTTP/1.1\r\nHost: a\r\n${'X: 1\r\n'.repeat(300)}\r\n`, 431],
] as const) {
  test(`${what}: refused, and nobody hears a request`, limit, async () => {
    await annTakesHers();
    const socket = call(port.port, text);
    assert.match(await readAll(socket), new RegExp(`^HTTP/1.1 ${status} [^\\r]*\\r\\nConnection: close`));
    assert.deepEqual(seen, []);
    socket.destroy();
  });
}

test('a head that comes too slowly is given up', limit, async () => {
  await annTakesHers();
  const socket = call(port.port, 'GET / HTTP/1.1\r\nHost: a\r\nX: ');
  await once(socket, 'connect');
  while (pod.clock.timers === 0) {
    await settled();
  }
  const answer = readAll(socket);
  for (let seconds = 0; seconds < 12; seconds++) {
    await settled();
    socket.write('x');
    await settled();
    pod.clock.advance(1_000);
  }
  assert.match(await answer, /^HTTP\/1\.1 408 /);
});

test('an application that speaks first is heard, and what is not HTTP passes through untouched', limit, async () => {
  const app = createTcpServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => socket.write(`app ${chunk.toString('hex')} `));
    socket.on('end', () => socket.end('bye'));
  });
  port = await openPort(pod, app);
  await annTakesHers();
  for (const bytes of [Buffer.of(0x16, 3, 1, 0, 5), Buffer.from('*1\r\n$4\r\nPING\r\n'), Buffer.from('PING\r\n')]) {
    const socket = call(port.port);
    socket.end(bytes);
    assert.equal(await readAll(socket), `app ${bytes.toString('hex')} bye`);
  }
  const greeter = createTcpServer({ allowHalfOpen: true }, (socket) => {
    socket.write('220 ready\r\n');
    socket.on('data', (chunk) => socket.end(`got ${String(chunk)}`));
  });
  port = await openPort(pod, greeter);
  await annTakesHers();
  const socket = call(port.port);
  await once(socket, 'connect');
  const greeting = readUntil(socket, (text) => text.endsWith('\n'));
  for (let turn = 0; turn < 50; turn++) {
    await settled();
  }
  pod.clock.advance(1_000);
  assert.equal(await greeting, '220 ready\r\n');
  socket.end('EHLO a');
  assert.equal(await readAll(socket), 'got EHLO a');
});

test(
  'an answer until the end of the connection ends it, and one that is not understood is passed on',
  limit,
  async () => {
    const answers = ['HTTP/1.0 200 OK\r\n\r\nall of it', 'HTTP/1.1 200 OK\nbad\n\nwhatever'];
    const app = createTcpServer((socket) => socket.once('data', () => socket.end(answers.shift() ?? '')));
    port = await openPort(pod, app);
    await annTakesHers();
    for (const expected of [...answers]) {
      assert.equal(await readAll(call(port.port, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n')), expected);
    }
  },
);

test('a caller that resets is a reset at the program, and the other way round', limit, async () => {
  const heard = Promise.withResolvers<boolean>();
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart');
      socket.once('close', (hadError) => heard.resolve(hadError));
    });
  });
  const localPort = await local(server);
  await developer(pod, 'ann');
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', localPort, forAnn)] });
  const first = call(port.port, 'GET / HTTP/1.1\r\nHost: a\r\nX-User: ann\r\n\r\n');
  await readUntil(first, (text) => text.endsWith('part'));
  first.resetAndDestroy();
  assert.equal(await heard.promise, true);

  const breaking = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart', () => socket.resetAndDestroy());
    });
  });
  const second = await local(breaking);
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', second, forAnn)] });
  assert.match(await readAll(call(port.port, 'GET / HTTP/1.1\r\nHost: a\r\nX-User: ann\r\n\r\n')), / lost$/);
});
