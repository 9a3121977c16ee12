import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, mock, test } from 'node:test';
import { emptyPlan } from '../../src/agent/port/diversion.ts';
import { Forwarder } from '../../src/agent/port/forwarder.ts';
import { buildRelay } from '../../src/agent/relay/build.mjs';
import { loadRelay, type Relay } from '../../src/agent/relay/relay.ts';
import { Diverter } from '../../src/agent/tunnel/diverter.ts';
import { Scope, silentLogger, systemClock } from '../../src/base/index.ts';
import { run, waitFor } from '../cluster/shell.ts';

// What passes through an agent, with the relay in C and with the one in JavaScript: nobody may notice either.
const limit = { timeout: 60_000 };
let folder: string;
let native: Relay;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nearfield-relay-'));
  await buildRelay(join(folder, 'relay.node'));
  native = loadRelay(join(folder, 'relay.node')) ?? assert.fail('the relay could not be loaded');
}, limit);

after(async () => {
  await native.dispose();
  await rm(folder, { recursive: true, force: true });
});

test('an agent without the relay’s file has none', () => {
  assert.equal(loadRelay(join(folder, 'missing.node')), undefined);
});

interface Passing {
  readonly port: number;
  readonly app: Server;
  readonly scope: Scope;
  readonly forwarder: Forwarder;
  /** How often somebody attached was asked to take a connection; he never does. */
  asked(): number;
  call(): Promise<Socket & { readonly failed: Promise<NodeJS.ErrnoException> }>;
}

for (const kind of ['native', 'JavaScript'] as const) {
  const check = (title: string, work: (passing: Passing) => Promise<void>, onCaller = serve): void => {
    test(`${kind}: ${title}`, limit, async () => {
      const passing = await start(kind === 'native' ? native : undefined, onCaller);
      try {
        await work(passing);
      } finally {
        await passing.scope.dispose();
      }
    });
  };

  check('bytes go both ways, and an end travels in each direction by itself', async ({ call }) => {
    const socket = await call();
    socket.end('hello');
    assert.equal(await textOf(socket), 'hello, bye');
  });

  check('an application that ends first still hears the caller', async ({ app, call }) => {
    const heard = new Promise<string>((resolve) => {
      app.removeAllListeners('connection');
      app.on('connection', (socket: Socket) => {
        socket.end('first');
        void textOf(socket).then(resolve);
      });
    });
    const socket = await call();
    assert.equal(await textOf(socket), 'first');
    socket.end('later');
    assert.equal(await heard, 'later');
  });

  check('a reset of the application is a reset for the caller', async ({ app, call }) => {
    app.removeAllListeners('connection');
    app.on('connection', (socket: Socket) => socket.once('data', () => socket.resetAndDestroy()));
    const socket = await call();
    socket.write('x');
    assert.equal((await socket.failed).code, 'ECONNRESET');
  });

  check('a reset of the caller is a reset for the application', async ({ app, call }) => {
    app.removeAllListeners('connection');
    const heard = Promise.withResolvers<void>();
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => {
      app.on('connection', (accepted: Socket) => {
        accepted.on('data', () => heard.resolve());
        accepted.on('error', resolve);
      });
    });
    const socket = await call();
    socket.write('x');
    await heard.promise;
    socket.resetAndDestroy();
    assert.equal((await failed).code, 'ECONNRESET');
  });

  check('a caller of an application that does not listen is reset', async ({ app, call }) => {
    app.close();
    const socket = await call();
    assert.equal((await socket.failed).code, 'ECONNRESET');
  });

  check('64 MB arrive whole although the reader is slow', async ({ app, call }) => {
    const sent = createHash('sha256');
    const received = createHash('sha256');
    app.removeAllListeners('connection');
    app.on('connection', (socket: Socket) => {
      let left = 64;
      const push = (): void => {
        while (left > 0) {
          const block = randomBytes(1024 * 1024);
          sent.update(block);
          left--;
          if (!socket.write(block)) {
            socket.once('drain', push);
            return;
          }
        }
        socket.end();
      };
      push();
    });
    const socket = await call();
    let turns = 0;
    socket.on('data', (chunk: Buffer) => {
      received.update(chunk);
      if (++turns % 50 === 0) {
        socket.pause();
        setImmediate(() => socket.resume());
      }
    });
    await once(socket, 'end');
    socket.end();
    assert.equal(received.digest('hex'), sent.digest('hex'));
  });

  check('a reader that stops, stops the writer', async ({ app, call }) => {
    let written = 0;
    let isFull = false;
    app.removeAllListeners('connection');
    app.on('connection', (socket: Socket) => {
      const block = Buffer.alloc(1024 * 1024);
      socket.on('error', () => undefined);
      const push = (): void => {
        isFull = false;
        while (written < 512 && socket.write(block)) {
          written++;
        }
        isFull = true;
        socket.once('drain', push);
      };
      push();
    });
    const socket = await call();
    socket.pause();
    let before = -1;
    await waitFor('the writer standing still', 20_000, async () => {
      const stands = isFull && written === before;
      before = written;
      return stands ? true : undefined;
    });
    assert.ok(written < 64, `${written} MB were taken from the writer`);
    socket.destroy();
  });

  check('attaching and leaving lose no caller, and only while somebody is attached he is asked', async (passing) => {
    const { forwarder, asked, call } = passing;
    const talk = async (): Promise<string> => {
      const socket = await call();
      socket.end('x');
      return await textOf(socket);
    };
    for (let turn = 1; turn <= 20; turn++) {
      // Those that come while it changes may go either way, and must be answered.
      const between = [talk(), talk()];
      forwarder.apply({ ...emptyPlan, whole: attachedTo });
      between.push(talk());
      assert.deepEqual(await Promise.all(between), ['x, bye', 'x, bye', 'x, bye']);
      const before = asked();
      assert.equal(await talk(), 'x, bye');
      assert.equal(asked(), before + 1, 'who is attached was not asked');
      forwarder.apply(emptyPlan);
      assert.equal(await talk(), 'x, bye');
      assert.equal(asked(), before + 1, 'who has left was asked');
    }
  });

  check('a thousand connections at a time are served, and nothing of them is left', async ({ call }) => {
    const sockets = await Promise.all(Array.from({ length: 1_000 }, call));
    const answers = sockets.map((socket, index) => {
      socket.end(String(index));
      return textOf(socket);
    });
    assert.deepEqual(
      await Promise.all(answers),
      sockets.map((_, index) => `${index}, bye`),
    );
    if (kind === 'native') {
      await waitFor('the end of all pairs', 5_000, async () => (native.count === 0 ? true : undefined));
    }
  });
}

// In a network with 64 ports for connections. The application ends first, so that its caller's port is free at once.
const fewPorts = `
  const net = require('node:net');
  const relay = require(process.argv[1]);
  const served = [];
  const app = net.createServer((socket) => { served.push(socket); socket.on('error', () => {}).write('x'); });
  const call = (number) => new Promise((resolve, reject) => {
    // To each of the two addresses there are 64 ports for callers, too.
    const socket = net.connect({ port: 8000, host: number === 65 ? '127.0.0.1' : '::1' });
    socket.once('data', resolve).once('error', reject).once('connect', () => { if (number === 65) served[0].end(); });
  });
  app.listen(8001, '127.0.0.1', () => {
    const server = net.createServer().listen(8000, '::', async () => {
      relay.start();
      const door = relay.addDoor(server._handle.fd, Uint8Array.of(127, 0, 0, 1), 8001, 10000);
      server.close();
      relay.setOpen(door, true);
      const all = Array.from({ length: 64 }, (_, index) => call(index + 1));
      await Promise.all(all).then(() => call(65)).then(() => console.log('all answered'), (error) => console.log(error.code));
      process.exit(0);
    });
  });`;

test('native: a caller for whom no port is left waits until there is one', limit, async () => {
  const namespace = 'nf-few-ports';
  const inside = (...command: string[]): Promise<string> =>
    run('ip', ['netns', 'exec', namespace, ...command], { timeoutMs: 30_000 });
  await run('ip', ['netns', 'delete', namespace]).catch(() => undefined);
  await run('ip', ['netns', 'add', namespace]);
  try {
    await inside('ip', 'link', 'set', 'lo', 'up');
    await inside('sh', '-c', 'echo 40000 40063 > /proc/sys/net/ipv4/ip_local_port_range');
    const output = await inside(process.execPath, '-e', fewPorts, join(folder, 'relay.node'));
    assert.equal(output.trim(), 'all answered');
  } finally {
    await run('ip', ['netns', 'delete', namespace]);
  }
});

test('a relay that is stopped resets what is open', limit, async () => {
  const passing = await start(native, serve);
  const socket = await passing.call();
  socket.write('x');
  await once(socket, 'data');
  await native.dispose();
  assert.equal((await socket.failed).code, 'ECONNRESET');
  assert.equal(native.count, 0);
  await passing.scope.dispose();
});

const attachedTo = {
  interceptId: 'id',
  clientSession: 'session',
  targetHost: '127.0.0.1',
  targetPort: 8080,
  dialTimeoutMs: 5_000,
  roundtripLatencyMs: 2_000,
};

/** An application, and an agent's port in front of it. */
async function start(relay: Relay | undefined, onCaller: (socket: Socket) => void): Promise<Passing> {
  const scope = new Scope();
  const app = createServer({ allowHalfOpen: true }, onCaller);
  scope.defer(() => void app.close());
  const containerPort = await listen(app);
  const port = await freePort();
  const diverter = new Diverter(systemClock, silentLogger, () => undefined);
  const asking = mock.method(diverter, 'open', () => ({ taken: Promise.resolve(undefined), cancel: () => undefined }));
  const options = { agentPort: port, containerPort, podIp: '127.0.0.1', clock: systemClock, log: silentLogger };
  const forwarder = scope.own(new Forwarder({ ...options, diverter, relay }));
  await forwarder.listen();
  return {
    port,
    app,
    scope,
    forwarder,
    asked: () => asking.mock.callCount(),
    async call() {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
      scope.defer(() => void socket.destroy());
      // From the first moment: a reset may be quicker than whoever waits for it.
      const failed = new Promise<NodeJS.ErrnoException>((resolve) => void socket.once('error', resolve));
      await Promise.race([once(socket, 'connect').catch(() => undefined), failed]);
      return Object.assign(socket, { failed });
    },
  };
}

/** Repeats what it hears, and says good-bye when the caller has ended. */
function serve(socket: Socket): void {
  socket.on('error', () => undefined);
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('end', () => socket.end(', bye'));
}

async function textOf(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(socket, 'end');
  return text;
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  server.close();
  await once(server, 'close');
  return port;
}
