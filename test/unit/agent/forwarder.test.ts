import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { type Diversion, emptyPlan } from '../../../src/agent/port/diversion.ts';
import { Forwarder } from '../../../src/agent/port/forwarder.ts';
import { maxReplayBytes } from '../../../src/agent/port/said.ts';
import { Diverter } from '../../../src/agent/tunnel/diverter.ts';
import { Scope, silentLogger, systemClock } from '../../../src/base/index.ts';
import { Agent, parseConnId, serializeConnId, serializeStreamInfo, tunnelCode } from '../../../src/protocol/index.ts';
import {
  createCallTransport,
  createGrpcServer,
  type OnOpen,
  openHttp2,
  openMux,
  openTunnel,
  type TunnelStream,
} from '../../../src/protocol/transport/index.ts';
import { waitFor } from '../../cluster/shell.ts';
import { HandClock, settled } from '../manager/hand-clock.ts';

const limit = { timeout: 10_000 };
const sessionId = 'ann';
const diversion: Diversion = {
  interceptId: 'ann:web',
  clientSession: sessionId,
  targetHost: '127.0.0.1',
  targetPort: 3000,
  dialTimeoutMs: 1_000,
  roundtripLatencyMs: 500,
};

let scope: Scope;
let clock: HandClock;
let forwarder: Forwarder;
let port: number;
let apiPort: number;
/** As a port-forward that is gone. */
let breakDeveloper: () => void;
let session: Awaited<ReturnType<typeof openHttp2>>;
let appSockets: Socket[];

const listen = async (server: Server): Promise<number> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

async function freePort(): Promise<number> {
  const server = createServer();
  const free = await listen(server);
  server.close();
  await once(server, 'close');
  return free;
}

/** An application that says who it is and repeats what it hears; and the agent's port in front of it. */
beforeEach(async () => {
  scope = new Scope();
  clock = new HandClock();
  appSockets = [];
  const app = createServer({ allowHalfOpen: true }, (socket) => {
    appSockets.push(socket);
    socket.on('error', () => undefined);
    socket.write('app ');
    socket.on('data', (chunk) => socket.write(chunk));
    socket.on('end', () => socket.end());
  });
  const containerPort = await listen(app);
  scope.defer(() => void app.close());
  const diverter = new Diverter(clock, silentLogger, () => undefined);
  port = await freePort();
  forwarder = scope.own(
    new Forwarder({ agentPort: port, containerPort, podIp: '127.0.0.1', diverter, clock, log: silentLogger }),
  );
  await forwarder.listen();
  const grpc = createGrpcServer({
    clock: systemClock,
    service: 'agent',
    acceptTunnel: (stream) => diverter.accept(stream),
    routes: (router) =>
      router.service(Agent, {
        version: () => ({ name: 'test', version: 'v2.24.0' }),
        watchDial: (request, { signal }) => diverter.watch(request.sessionId, signal),
      }),
    mux: {
      isKnown: async () => true,
      onOpen: (stream) => stream.reset(),
      onMux: (mux, { sessionId: id }) => diverter.serveMux(mux, id),
    },
  });
  apiPort = await grpc.listen(0, '127.0.0.1');
  session = await openHttp2({ host: '127.0.0.1', port: apiPort }, { clock: systemClock });
  scope.defer(() => grpc.close());
  scope.defer(() => session.destroy());
});

afterEach(() => scope.dispose());

const ways = ['a tunnel for each', 'all in one stream'] as const;
let way: (typeof ways)[number];
/** Connections that came in one stream, by what they are called. */
const brought = new Map<string, TunnelStream>();
const nameOf = (connId: Uint8Array): string => Buffer.from(connId).toString('hex');

/** The same, however the developer's side gets its connections. */
function eachWay(name: string, work: () => Promise<void>): void {
  for (const each of ways) {
    test(`${name} (${each})`, limit, async () => {
      way = each;
      brought.clear();
      await work();
    });
  }
}

/** The developer's side: it listens for dials, and takes them when told to. */
async function developer(): Promise<{ next(): Promise<Uint8Array> }> {
  if (way === 'all in one stream') {
    const connIds: Uint8Array[] = [];
    const onOpen: OnOpen = (stream, { id }) => {
      const connId = serializeConnId(id);
      brought.set(nameOf(connId), stream);
      connIds.push(connId);
    };
    const { signal } = new AbortController();
    const mux = await openMux(connect(apiPort, '127.0.0.1'), { clock: systemClock, sessionId, onOpen, signal });
    assert.ok(mux);
    breakDeveloper = () => mux.close();
    scope.defer(breakDeveloper);
    return { next: () => waitFor('a connection', 5_000, () => connIds.shift()) };
  }
  breakDeveloper = () => session.destroy();
  const agent = createClient(Agent, createCallTransport(session));
  const controller = new AbortController();
  scope.defer(() => controller.abort());
  const requests = agent.watchDial({ sessionId }, { signal: controller.signal })[Symbol.asyncIterator]();
  let next = requests.next();
  next.catch(() => undefined);
  await agent.version({});
  return {
    async next() {
      const { value } = await next;
      next = requests.next();
      next.catch(() => undefined);
      return value?.connId ?? new Uint8Array(0);
    },
  };
}

interface Fetched {
  readonly stream: TunnelStream;
  readonly text: () => string;
  /** The agent has found the connection that waits. */
  readonly accepted: Promise<void>;
  readonly ended: Promise<void>;
  /** The first bytes have come. */
  readonly heard: Promise<void>;
  readonly closed: Promise<void>;
}

function fetch(connId: Uint8Array): Fetched {
  const id = parseConnId(connId);
  assert.ok(id);
  const carried = brought.get(nameOf(connId));
  const stream: TunnelStream = carried ?? openTunnel(session, 'agent');
  let text = '';
  const [accepted, ended, closed, heard] = [1, 2, 3, 4].map(() => Promise.withResolvers<void>());
  assert.ok(accepted && ended && closed && heard);
  if (carried) {
    accepted.resolve();
  } else {
    stream.send(
      tunnelCode.streamInfo,
      serializeStreamInfo({ id, sessionId, dialTimeoutMs: 1_000, roundtripLatencyMs: 500 }),
    );
  }
  stream.start({
    onControl: () => accepted.resolve(),
    onData: (slice) => {
      text += Buffer.from(slice).toString();
      heard.resolve();
    },
    onEnd: () => ended.resolve(),
    onDrain: () => undefined,
    onClose: () => closed.resolve(),
  });
  return {
    stream,
    text: () => text,
    accepted: accepted.promise,
    ended: ended.promise,
    heard: heard.promise,
    closed: closed.promise,
  };
}

const call = (): Socket => {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => undefined);
  return socket;
};

async function readAll(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket) {
    text += String(chunk);
  }
  return text;
}

test('without an intercept the application answers, with half-close kept apart', limit, async () => {
  const socket = call();
  socket.end('hello');
  assert.equal(await readAll(socket), 'app hello');
});

eachWay('an intercepted connection reaches the developer, not the application', async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  socket.end('hello');
  const connId = await next();
  assert.equal(parseConnId(connId)?.destinationPort, 3000);
  const { stream, text, ended } = fetch(connId);
  stream.send(tunnelCode.dialOk);
  await ended;
  assert.equal(text(), 'hello');
  stream.sendData(Buffer.from('from the laptop'));
  stream.endSend();
  assert.equal(await readAll(socket), 'from the laptop');
  assert.equal(appSockets.length, 0);
});

eachWay('when the developer’s port refuses, the application answers, and no byte is lost', async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  socket.end('hello');
  const { stream } = fetch(await next());
  stream.send(tunnelCode.dialReject);
  stream.endSend();
  assert.equal(await readAll(socket), 'app hello');
});

eachWay('when the developer does not fetch in time, the application answers', async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  socket.end('hello');
  await next();
  clock.advance(1_500);
  assert.equal(await readAll(socket), 'app hello');
});

eachWay('when the developer breaks off before an answer, the application answers', async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  socket.end('hello');
  fetch(await next()).stream.reset();
  assert.equal(await readAll(socket), 'app hello');
});

eachWay('when the developer’s connection breaks before it has fetched, the application answers at once', async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  socket.end('hello');
  await next();
  breakDeveloper();
  assert.equal(await readAll(socket), 'app hello', 'and no time has passed');
});

for (const ended of [true, false]) {
  eachWay(
    `when the developer is lost before an answer, the application hears all that was said${ended ? ', and its end' : ''}`,
    async () => {
      forwarder.apply({ ...emptyPlan, whole: diversion });
      const { next } = await developer();
      const socket = call();
      socket.write('hel');
      const { stream, ended: heardEnd, heard } = fetch(await next());
      stream.send(tunnelCode.dialOk);
      await heard;
      socket.write('lo');
      if (ended) {
        socket.end();
        await heardEnd;
      }
      breakDeveloper();
      const answer = readAll(socket);
      if (!ended) {
        await waitFor('the application being asked', 5_000, async () => (appSockets.length > 0 ? true : undefined));
        socket.end(' again');
      }
      assert.equal(await answer, ended ? 'app hello' : 'app hello again');
    },
  );
}

eachWay('when the developer is lost in the middle of an answer, the caller sees a failure and no end', async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  socket.write('hello');
  const { stream } = fetch(await next());
  stream.send(tunnelCode.dialOk);
  stream.sendData(Buffer.from('half of'));
  await once(socket, 'data');
  const failed = new Promise((resolve) => socket.once('close', resolve));
  breakDeveloper();
  assert.equal(await failed, true);
  assert.equal(appSockets.length, 0);
});

eachWay('what was too much to keep is not said again', async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  socket.write(Buffer.alloc(maxReplayBytes + 1, 'x'));
  const { stream, heard, text } = fetch(await next());
  stream.send(tunnelCode.dialOk);
  await heard;
  await waitFor('all of it', 5_000, async () => (text().length > maxReplayBytes ? true : undefined));
  const failed = new Promise((resolve) => socket.once('close', resolve));
  breakDeveloper();
  assert.equal(await failed, true);
});

test(
  'in one stream the first words go along with the question, and no more of them before the answer',
  limit,
  async () => {
    way = 'all in one stream';
    forwarder.apply({ ...emptyPlan, whole: diversion });
    const { next } = await developer();
    const socket = call();
    socket.write('first');
    const { stream, text, heard, ended } = fetch(await next());
    await heard;
    assert.equal(text(), 'first');
    socket.end(Buffer.alloc(2 * maxReplayBytes, 'x'));
    // Whatever the agent reads before the answer can still be said to the application.
    await waitFor('the kernel having it', 5_000, () => (socket.writableLength === 0 ? true : undefined));
    assert.ok(text().length <= maxReplayBytes);
    stream.send(tunnelCode.dialOk);
    await ended;
    assert.equal(text().length, 5 + 2 * maxReplayBytes);
  },
);

test('a refusal after the first words brings all of them to the application, however many', limit, async () => {
  way = 'all in one stream';
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  const said = Buffer.alloc(4 * maxReplayBytes, 'x');
  socket.end(said);
  const { stream, heard } = fetch(await next());
  await heard;
  stream.send(tunnelCode.dialReject);
  stream.endSend();
  assert.equal(await readAll(socket), `app ${said}`);
});

test('when nobody listens and the manager is away, the application answers at once', limit, async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const socket = call();
  socket.end('hello');
  assert.equal(await readAll(socket), 'app hello');
});

test('a connection that nobody waits for cannot be fetched', limit, async () => {
  const connId = Uint8Array.of(10, 0, 0, 1, 0, 1, 127, 0, 0, 1, 0, 2, 6);
  await fetch(connId).closed;
});

eachWay('open connections stay where they are when the intercept ends', async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  const { stream } = fetch(await next());
  stream.send(tunnelCode.dialOk);
  stream.sendData(Buffer.from('one '));
  await once(socket, 'data');
  forwarder.apply(emptyPlan);
  stream.sendData(Buffer.from('two'));
  assert.equal(String((await once(socket, 'data'))[0]), 'two');
  stream.endSend();
  socket.end();
  await settled();
});

test('a reset of the application is a reset at the caller', limit, async () => {
  const socket = call();
  await once(socket, 'data');
  const failed = new Promise((resolve) => socket.once('close', resolve));
  appSockets[0]?.resetAndDestroy();
  assert.equal(await failed, true);
});

eachWay('a developer who answers too late does not get a connection that the application has', async () => {
  forwarder.apply({ ...emptyPlan, whole: diversion });
  const { next } = await developer();
  const socket = call();
  const { stream, text, closed, accepted } = fetch(await next());
  await accepted;
  clock.advance(1_500);
  assert.equal(String((await once(socket, 'data'))[0]), 'app ');
  stream.send(tunnelCode.dialOk);
  await closed;
  socket.end('hello');
  assert.equal(await readAll(socket), 'hello');
  assert.equal(text(), '');
});
