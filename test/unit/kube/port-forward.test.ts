import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, test } from 'node:test';
import { type WebSocket, WebSocketServer } from 'ws';
import { openPortForward } from '../../../src/kube/port-forward.ts';
import type { Requester } from '../../../src/kube/request.ts';

const limit = { timeout: 10_000 };
/** Data channel, then the error channel. */
const port8081 = [Buffer.of(0, 0x91, 0x1f), Buffer.of(1, 0x91, 0x1f)];
const block = Buffer.alloc(65_536, 7);
const total = 64 * 1024 * 1024;

let server: WebSocketServer;
let onForward: (socket: WebSocket) => void = () => undefined;
let asked: string[] = [];
let refuseWith: number | undefined;
const open: Duplex[] = [];

// The API server's end, in this process: each message begins with the number of its channel.
beforeEach(async () => {
  asked = [];
  refuseWith = undefined;
  server = new WebSocketServer({
    port: 0,
    host: '127.0.0.1',
    handleProtocols: (protocols) => [...protocols][0] ?? false,
    verifyClient: (_info, answer) => (refuseWith ? answer(false, refuseWith) : answer(true)),
  });
  server.on('connection', (socket, request) => {
    asked.push(`${request.url} ${socket.protocol}`);
    socket.on('error', () => undefined);
    onForward(socket);
  });
  await once(server, 'listening');
});

afterEach(() => {
  for (const duplex of open.splice(0)) {
    duplex.destroy();
  }
  for (const client of server.clients) {
    client.terminate();
  }
  server.close();
});

async function forward(signal?: AbortSignal): Promise<Duplex> {
  const { port } = server.address() as AddressInfo;
  const requester: Pick<Requester, 'server' | 'options'> = {
    server: `http://127.0.0.1:${port}/`,
    options: async () => ({}),
  };
  const duplex = await openPortForward(requester as Requester, { namespace: 'n', pod: 'p 1', port: 8081, signal });
  duplex.on('error', () => undefined);
  open.push(duplex);
  return duplex;
}

const greet = (socket: WebSocket): void => {
  for (const message of port8081) {
    socket.send(message);
  }
};

test('it asks for the pod’s port in the protocol with channels', limit, async () => {
  onForward = greet;
  await forward();
  assert.deepEqual(asked, ['/api/v1/namespaces/n/pods/p%201/portforward?ports=8081 v4.channel.k8s.io']);
});

test(
  'what a server says before anybody listens is kept, and the port’s own message is not payload',
  limit,
  async () => {
    onForward = (socket) => {
      greet(socket);
      socket.send(Buffer.from('\x00first '));
      socket.send(Buffer.from('\x00second'));
    };
    const duplex = await forward();
    // Whoever opened it is busy for a while.
    for (let turn = 0; turn < 50; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    let heard = '';
    duplex.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
    });
    while (heard.length < 12) {
      await once(duplex, 'data');
    }
    assert.equal(heard, 'first second');
  },
);

test('what is written arrives on the data channel, in order', limit, async () => {
  const heard: Buffer[] = [];
  const done = Promise.withResolvers<void>();
  onForward = (socket) => {
    greet(socket);
    socket.on('message', (message: Buffer) => {
      assert.equal(message[0], 0);
      heard.push(message.subarray(1));
      if (Buffer.concat(heard).length === 11) {
        done.resolve();
      }
    });
  };
  const duplex = await forward();
  duplex.write('hello ');
  duplex.write('wor');
  duplex.write('ld');
  await done.promise;
  assert.equal(Buffer.concat(heard).toString(), 'hello world');
});

test('much at once arrives whole and in order, in messages of a size that is cheap to unpack', limit, async () => {
  const heard: Buffer[] = [];
  let bytes = 0;
  let largest = 0;
  const pieces = [1, 0, 9, 16_384, 65_535, 65_536, 200_000, 3].map((length, index) => Buffer.alloc(length, index + 1));
  const all = Buffer.concat(pieces);
  const done = Promise.withResolvers<void>();
  onForward = (socket) => {
    greet(socket);
    socket.on('message', (message: Buffer) => {
      largest = Math.max(largest, message.length);
      heard.push(message.subarray(1));
      bytes += message.length - 1;
      if (bytes === all.length) {
        done.resolve();
      }
    });
  };
  const duplex = await forward();
  duplex.cork();
  for (const piece of pieces) {
    duplex.write(piece);
  }
  duplex.uncork();
  await done.promise;
  assert.ok(Buffer.concat(heard).equals(all));
  assert.ok(largest <= 64 * 1024, `a message of ${largest} bytes`);
});

test('a reader that does not read stops the server, and loses nothing', limit, async () => {
  let sent = 0;
  let isStalled = false;
  onForward = (socket) => {
    greet(socket);
    const message = Buffer.concat([Buffer.of(0), block]);
    const pump = (): void => {
      if (sent < total) {
        sent += block.length;
        isStalled = true;
        socket.send(message, () => {
          isStalled = false;
          pump();
        });
      } else {
        socket.close();
      }
    };
    pump();
  };
  const duplex = await forward();
  await stalled(
    () => sent,
    () => isStalled,
  );
  assert.ok(sent < total / 2, `the server went on to ${sent} bytes`);
  assert.ok(duplex.readableLength < 4 * 1024 * 1024, `${duplex.readableLength} bytes are held here`);
  let heard = 0;
  for await (const chunk of duplex) {
    heard += (chunk as Buffer).length;
  }
  assert.equal(heard, total);
});

test('a server that does not read stops the writer here, and loses nothing', limit, async () => {
  let heard = 0;
  const far = Promise.withResolvers<WebSocket>();
  onForward = (socket) => {
    greet(socket);
    socket.on('message', (message: Buffer) => {
      heard += message.length - 1;
    });
    socket.pause();
    far.resolve(socket);
  };
  const duplex = await forward();
  const socket = await far.promise;
  let written = 0;
  let isWaiting = false;
  const pump = (): void => {
    while (written < total) {
      written += block.length;
      if (!duplex.write(block)) {
        isWaiting = true;
        duplex.once('drain', () => {
          isWaiting = false;
          pump();
        });
        return;
      }
    }
  };
  pump();
  await stalled(
    () => written,
    () => isWaiting,
  );
  assert.ok(written < total / 2, `the writer went on to ${written} bytes`);
  socket.resume();
  while (heard < total) {
    await once(socket, 'message');
  }
  assert.equal(heard, total);
});

test('what the error channel says is the error', limit, async () => {
  onForward = (socket) => {
    greet(socket);
    socket.send(Buffer.from('\x01nothing listens on 8081'));
  };
  const duplex = await forward();
  duplex.resume();
  const [error] = (await once(duplex, 'error')) as [Error & { reason?: string }];
  assert.match(error.message, /pod p 1 failed: nothing listens on 8081/);
  assert.equal(error.reason, 'kube.forward-failed');
});

test('a server that hangs up ends the stream', limit, async () => {
  onForward = (socket) => {
    greet(socket);
    socket.send(Buffer.from('\x00bye'), () => socket.close());
  };
  const duplex = await forward();
  let heard = '';
  for await (const chunk of duplex) {
    heard += String(chunk);
  }
  assert.equal(heard, 'bye');
});

test('destroying the stream hangs up', limit, async () => {
  const closed = Promise.withResolvers<void>();
  onForward = (socket) => {
    greet(socket);
    socket.on('close', () => closed.resolve());
  };
  (await forward()).destroy();
  await closed.promise;
});

test('a write after the server hung up is an error, not a crash', limit, async () => {
  onForward = (socket) => socket.close();
  const duplex = await forward();
  duplex.resume();
  await once(duplex, 'close');
  await new Promise<void>((resolve) => duplex.write('x', () => resolve()));
});

test('a refusal says which pod, and what to check', limit, async () => {
  refuseWith = 403;
  await assert.rejects(forward(), { reason: 'kube.forward-failed', code: 'unavailable', message: /pod p 1.*403/ });
});

test('cancelling while it opens rejects at once', limit, async () => {
  await assert.rejects(forward(AbortSignal.abort()), { reason: 'kube.forward-failed' });
  const controller = new AbortController();
  server.removeAllListeners('connection');
  const opening = forward(controller.signal);
  controller.abort();
  await assert.rejects(opening, { reason: 'kube.forward-failed' });
});

/** Resolves when a transfer stands still: no progress over many turns of the event loop while it waits. */
async function stalled(progress: () => number, isWaiting: () => boolean): Promise<void> {
  let last = -1;
  for (let still = 0; still < 200; still++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (progress() !== last || !isWaiting()) {
      still = 0;
    }
    last = progress();
  }
}
