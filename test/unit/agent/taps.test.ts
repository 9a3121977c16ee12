import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { emptyPlan } from '../../../src/agent/port/diversion.ts';
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

const limit = { timeout: 20_000 };
let pod: Pod;
let port: Port;

/** Says `app:`, and repeats what it hears. */
const echo = (): Server =>
  createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.write('app:');
    socket.pipe(socket);
  });

interface Listener {
  readonly port: number;
  readonly ended: Promise<string>;
  heard(): string;
}

/** The program of a wiretap: it answers, which nobody is to hear. */
async function listener(isDeaf = false): Promise<Listener> {
  let text = '';
  const ended = Promise.withResolvers<string>();
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.write('HTTP/1.1 500 I was not asked\r\n\r\n');
    if (isDeaf) {
      socket.pause();
      return;
    }
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
    });
    socket.on('end', () => ended.resolve(text));
  });
  pod.scope.defer(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    server.close();
  });
  return { port: await listen(server), ended: ended.promise, heard: () => text };
}

beforeEach(async () => {
  pod = await startPod();
  port = await openPort(pod, echo());
});
afterEach(() => pod.scope.dispose());

test('several wiretaps hear what a caller says, and only the application answers', limit, async () => {
  const [ann, bob] = [await listener(), await listener()];
  await developer(pod, 'ann');
  await developer(pod, 'bob');
  port.forwarder.apply({ ...emptyPlan, taps: [attachment('ann', ann.port), attachment('bob', bob.port)] });
  const socket = call(port.port);
  socket.end('hello');
  assert.equal(await readAll(socket), 'app:hello');
  assert.deepEqual([await ann.ended, await bob.ended], ['hello', 'hello']);
});

test('an intercepted connection can be listened to', limit, async () => {
  const tap = await listener();
  const laptop = createServer({ allowHalfOpen: true }, (socket) => {
    socket.write('laptop:');
    socket.pipe(socket);
  });
  const laptopPort = await listen(laptop);
  pod.scope.defer(() => void laptop.close());
  await developer(pod, 'ann');
  await developer(pod, 'bob');
  port.forwarder.apply({ ...emptyPlan, whole: attachment('ann', laptopPort), taps: [attachment('bob', tap.port)] });
  const socket = call(port.port);
  socket.end('hello');
  assert.equal(await readAll(socket), 'laptop:hello');
  assert.equal(await tap.ended, 'hello');
});

test('a wiretap that nobody hears does not hold up the original, and is cut off', limit, async () => {
  const deaf = await listener(true);
  await developer(pod, 'ann');
  port.forwarder.apply({ ...emptyPlan, taps: [attachment('ann', deaf.port)] });
  const socket = call(port.port);
  const size = 32 * 1024 * 1024;
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  socket.end(Buffer.alloc(size, 'x'));
  await once(socket, 'end');
  assert.equal(bytes, size + 'app:'.length);
});

for (const what of ['refuses', 'is gone'] as const) {
  test(`a wiretap whose developer ${what} costs the caller nothing`, limit, async () => {
    if (what === 'refuses') {
      await developer(pod, 'ann');
    }
    port.forwarder.apply({ ...emptyPlan, taps: [attachment('ann', await freePort())] });
    const socket = call(port.port);
    socket.end('hello');
    assert.equal(await readAll(socket), 'app:hello');
  });
}

test('a filtered wiretap hears the requests that it wants, whole, and no others', limit, async () => {
  const tap = await listener();
  await developer(pod, 'ann');
  const app = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      for (const _ of String(chunk).matchAll(/\r\n\r\n/g)) {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      }
    });
  });
  port = await openPort(pod, app);
  port.forwarder.apply({ ...emptyPlan, taps: [attachment('ann', tap.port, { 'x-user': 'ann' })] });
  const get = (path: string, user: string): string => `GET ${path} HTTP/1.1\r\nHost: web\r\nX-User: ${user}\r\n\r\n`;
  const socket = call(port.port, get('/1', 'ann') + get('/2', 'bob') + get('/3', 'ann'));
  await readUntil(socket, (text) => text.split('200 OK').length === 4);
  socket.end();
  assert.equal(await tap.ended, get('/1', 'ann') + get('/3', 'ann'));
});
