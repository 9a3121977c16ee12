import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  connect,
  constants,
  createServer,
  type Http2Server,
  type ServerHttp2Session,
} from 'node:http2';
import { createServer as createTcpServer, type Socket, type Server as TcpServer } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { emptyPlan } from '../../../src/agent/port/diversion.ts';
import { attachment, developer, freePort, listen, openPort, type Pod, type Port, startPod } from './pod.ts';

const limit = { timeout: 10_000 };
const forAnn = { 'x-user': 'ann' };
let pod: Pod;
let port: Port;
let seen: string[];
let appSessions: ServerHttp2Session[];

/** Says who it is, repeats what it hears, and adds a trailer with the number of bytes, as a gRPC service would a status. */
function program(name: string): Http2Server {
  const server = createServer();
  server.on('stream', (stream, headers) => {
    seen.push(`${name} ${headers[':path']}`);
    stream.on('error', () => undefined);
    if (headers[':path'] === '/reset') {
      stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      return;
    }
    if (headers[':path'] === '/trailers-only') {
      stream.respond({ ':status': 200, 'grpc-status': '5' }, { endStream: true });
      return;
    }
    let bytes = 0;
    stream.respond({ ':status': 200, 'x-from': name, 'set-cookie': ['a=1', 'b=2'] }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-bytes': String(bytes) }));
    let received: string[] = [];
    stream.on('trailers', (_headers, _flags, raw) => {
      received = raw;
    });
    stream.write(`${name}:`);
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (!stream.write(chunk)) {
        stream.pause();
        stream.once('drain', () => stream.resume());
      }
    });
    stream.on('end', () => stream.end(received.join('=')));
  });
  return server;
}

async function local(server: TcpServer): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
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
  appSessions = [];
  pod = await startPod();
  const app = program('app');
  app.on('session', (session) => appSessions.push(session));
  port = await openPort(pod, app);
});
afterEach(() => pod.scope.dispose());

async function annTakesHers(): Promise<void> {
  const localPort = await local(program('ann'));
  await developer(pod, 'ann');
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', localPort, forAnn)] });
}

function caller(): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port.port}`);
  session.on('error', () => undefined);
  pod.scope.defer(() => session.destroy());
  return session;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: Record<string, unknown>;
  readonly trailers: Record<string, unknown>;
  readonly rstCode: number;
}

async function ask(
  session: ClientHttp2Session,
  path: string,
  headers: Record<string, string> = {},
  body: string | Buffer = '',
  trailers?: Record<string, string>,
): Promise<Answer> {
  const stream = session.request(
    { ':path': path, ':method': body ? 'POST' : 'GET', ...headers },
    { endStream: !body, waitForTrailers: trailers !== undefined },
  );
  const answer = { status: 0, body: '', headers: {}, trailers: {} };
  stream.on('error', () => undefined);
  stream.on('response', (received) => {
    answer.status = received[':status'] ?? 0;
    answer.headers = { ...received };
  });
  stream.on('trailers', (received) => {
    answer.trailers = { ...received };
  });
  stream.on('wantTrailers', () => stream.sendTrailers(trailers ?? {}));
  stream.on('data', (chunk) => {
    answer.body += String(chunk);
  });
  if (body) {
    stream.end(body);
  }
  await new Promise<void>((resolve) => stream.once('close', () => resolve()));
  return { ...answer, rstCode: stream.rstCode ?? 0 };
}

test('streams of one connection go where their headers say, at the same time', limit, async () => {
  await annTakesHers();
  const session = caller();
  const answers = await Promise.all(
    ['ann', 'bob', 'ann', 'cat'].map((user) => ask(session, '/x', { 'x-user': user }, `I am ${user}`)),
  );
  assert.deepEqual(
    answers.map(({ body }) => body),
    ['ann:I am ann', 'app:I am bob', 'ann:I am ann', 'app:I am cat'],
  );
});

test('trailers of both directions, fields of the same name and answers of trailers alone are kept', limit, async () => {
  await annTakesHers();
  const session = caller();
  const answer = await ask(session, '/x', forAnn, 'hello', { 'x-sum': '7' });
  assert.equal(answer.body, 'ann:hellox-sum=7');
  assert.deepEqual(answer.headers['set-cookie'], ['a=1', 'b=2']);
  assert.equal(answer.trailers['grpc-status'], '0');
  assert.equal(answer.trailers['x-bytes'], '5');
  const short = await ask(session, '/trailers-only', forAnn);
  assert.deepEqual([short.status, short.headers['grpc-status'], short.body], [200, '5', '']);
});

test('a reset keeps its code in both directions', limit, async () => {
  await annTakesHers();
  const session = caller();
  assert.equal((await ask(session, '/reset', forAnn)).rstCode, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  assert.equal((await ask(session, '/x')).status, 200, 'the connection lives on');

  const heard = Promise.withResolvers<number>();
  const app = createServer();
  app.on('stream', (stream) => {
    stream.on('error', () => undefined);
    stream.respond();
    stream.once('close', () => heard.resolve(stream.rstCode ?? 0));
  });
  port = await openPort(pod, app);
  await annTakesHers();
  const stream = caller().request({ ':path': '/', ':method': 'POST' }, { endStream: false });
  stream.on('error', () => undefined);
  await once(stream, 'response');
  stream.close(constants.NGHTTP2_CANCEL);
  assert.equal(await heard.promise, constants.NGHTTP2_CANCEL);
});

test('when the developer’s port refuses, the application answers that very stream', limit, async () => {
  await developer(pod, 'ann');
  port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', await freePort(), forAnn)] });
  assert.equal((await ask(caller(), '/x', forAnn, 'hello')).body, 'app:hello');
});

test(
  'a program that does not speak HTTP/2, or breaks off, leaves the whole request to the application',
  limit,
  async () => {
    await developer(pod, 'ann');
    const deaf = await local(
      createTcpServer((socket) => socket.once('data', () => socket.end('HTTP/1.1 400 Bad\r\n\r\n'))),
    );
    port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', deaf, forAnn)] });
    assert.equal((await ask(caller(), '/x', forAnn, 'hello')).body, 'app:hello');

    const breaking = createServer();
    breaking.on('stream', (stream) => {
      stream.on('error', () => undefined);
      stream.once('data', () => stream.session?.destroy());
    });
    port.forwarder.apply({ ...emptyPlan, filtered: [attachment('ann', await local(breaking), forAnn)] });
    assert.equal((await ask(caller(), '/x', forAnn, 'hello')).body, 'app:hello');
  },
);

test('a caller who does not read stops the program, and megabytes arrive whole', limit, async () => {
  await annTakesHers();
  const session = caller();
  const size = 6 * 1024 * 1024;
  const stream = session.request({ ':path': '/big', ':method': 'POST', ...forAnn }, { endStream: false });
  stream.pause();
  const whole = Buffer.alloc(size, 'x');
  stream.end(whole);
  let bytes = 0;
  await once(stream, 'response');
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  stream.resume();
  await once(stream, 'end');
  assert.equal(bytes, size + 'ann:'.length);
});

test('the farewell of the application reaches the caller', limit, async () => {
  await annTakesHers();
  const session = caller();
  await ask(session, '/x');
  const goaway = once(session, 'goaway');
  appSessions[0]?.close();
  await goaway;
});

test('attaching and leaving count for the next stream', limit, async () => {
  await annTakesHers();
  const session = caller();
  assert.equal((await ask(session, '/x', forAnn)).body, 'ann:');
  port.forwarder.apply(emptyPlan);
  assert.equal((await ask(session, '/x', forAnn)).body, 'app:');
});
