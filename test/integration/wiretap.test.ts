import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { emptyPlan } from '../../src/agent/port/diversion.ts';
import { buildRelay } from '../../src/agent/relay/build.mjs';
import { loadRelay, type Relay } from '../../src/agent/relay/relay.ts';
import { waitFor } from '../cluster/shell.ts';
import {
  attachment,
  call,
  developer,
  listen,
  openPort,
  type Pod,
  type Port,
  readAll,
  startPod,
} from '../unit/agent/pod.ts';

// A wiretap on connections that the relay in C carries: it copies, and nobody who calls notices.
const limit = { timeout: 60_000 };
let folder: string;
let relay: Relay;
let pod: Pod;
let port: Port;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nearfield-wiretap-'));
  await buildRelay(join(folder, 'relay.node'));
  relay = loadRelay(join(folder, 'relay.node')) ?? assert.fail('the relay could not be loaded');
}, limit);
after(async () => {
  await relay.dispose();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  pod = await startPod();
  await developer(pod, 'ann');
});
afterEach(() => pod.scope.dispose());

/** Repeats what it hears. */
const echo = (): Server =>
  createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });

/** The developer's program: how each of its connections ended, and what it had heard. */
async function program(isDeaf = false): Promise<{ port: number; heard: Map<Socket, string[]>; sha: () => string }> {
  const heard = new Map<Socket, string[]>();
  const hash = createHash('sha256');
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const events: string[] = [];
    heard.set(socket, events);
    socket.on('error', ({ code }: NodeJS.ErrnoException) => events.push(code ?? 'error'));
    if (isDeaf) {
      socket.pause();
      return;
    }
    socket.on('data', (chunk) => hash.update(chunk));
    socket.on('end', () => {
      events.push('end');
      socket.end();
    });
  });
  pod.scope.defer(() => {
    for (const socket of heard.keys()) {
      socket.destroy();
    }
    server.close();
  });
  return { port: await listen(server), heard, sha: () => hash.digest('hex') };
}

const eventsOf = ({ heard }: { readonly heard: Map<Socket, string[]> }): string[] => [...heard.values()].flat();

test('the relay carries the connection, and the copy is all that the caller said, with its end', limit, async () => {
  const tap = await program();
  port = await openPort(pod, echo(), relay);
  port.forwarder.apply({ ...emptyPlan, taps: [attachment('ann', tap.port)] });
  // Less than a copy may lag behind: it is never cut off.
  const said = randomBytes(900_000);
  const socket = call(port.port);
  socket.write(said.subarray(0, 10));
  await once(socket, 'data');
  assert.equal(relay.count, 1);
  socket.end(said.subarray(10));
  await readAll(socket);
  await waitFor('the end of the copy', 10_000, () => (eventsOf(tap).includes('end') ? true : undefined));
  assert.equal(tap.sha(), createHash('sha256').update(said).digest('hex'));
  await waitFor('the end of the pair', 5_000, () => (relay.count === 0 ? true : undefined));
});

test('small words of a busy caller arrive in few pieces, and the last one with the end', limit, async () => {
  const pieces: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => pieces.push(chunk.toString()));
  });
  const tapPort = await listen(server);
  pod.scope.defer(() => void server.close());
  port = await openPort(pod, echo(), relay);
  port.forwarder.apply({ ...emptyPlan, taps: [attachment('ann', tapPort)] });
  const socket = call(port.port);
  const words = Array.from({ length: 60 }, (_, index) => `${index} `);
  for (const word of words) {
    socket.write(word);
    await once(socket, 'data');
  }
  socket.end();
  await readAll(socket);
  await waitFor('the whole copy', 10_000, () => (pieces.join('') === words.join('') ? true : undefined));
  assert.ok(pieces.length <= words.length / 2, `${pieces.length} pieces`);
});

test('a copy that is not read is reset, and the original goes on', limit, async () => {
  const deaf = await program(true);
  port = await openPort(pod, echo(), relay);
  port.forwarder.apply({ ...emptyPlan, taps: [attachment('ann', deaf.port)] });
  const said = randomBytes(64 * 1024 * 1024);
  const socket = call(port.port);
  const repeated = createHash('sha256');
  socket.on('data', (chunk) => repeated.update(chunk));
  socket.end(said);
  await once(socket, 'end');
  assert.equal(repeated.digest('hex'), createHash('sha256').update(said).digest('hex'));
  for (const each of deaf.heard.keys()) {
    each.resume();
  }
  await waitFor('the reset', 10_000, () => (eventsOf(deaf).includes('ECONNRESET') ? true : undefined));
  assert.ok(!eventsOf(deaf).includes('end'), 'what was cut off does not look whole');
});

test('a caller that is lost is a reset for who listens in', limit, async () => {
  const tap = await program();
  port = await openPort(pod, echo(), relay);
  port.forwarder.apply({ ...emptyPlan, taps: [attachment('ann', tap.port)] });
  const socket = call(port.port);
  socket.write('x');
  await once(socket, 'data');
  await waitFor('the copy being there', 10_000, () => (tap.heard.size === 1 ? true : undefined));
  socket.resetAndDestroy();
  await waitFor('the reset', 10_000, () => (eventsOf(tap).includes('ECONNRESET') ? true : undefined));
});

test('a flood of connections is answered whole, although only some can be copied', limit, async () => {
  const deaf = await program(true);
  port = await openPort(pod, echo(), relay);
  port.forwarder.apply({ ...emptyPlan, taps: [attachment('ann', deaf.port)] });
  const answers = new Map<string, number>();
  let left = 3_000;
  const caller = async (): Promise<void> => {
    while (left-- > 0) {
      const socket = call(port.port);
      socket.end('hello');
      const answer = await readAll(socket);
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: 32 }, caller));
  assert.deepEqual([...answers], [['hello', 3_000]]);
  assert.ok(deaf.heard.size > 0, 'some were copied');
  assert.ok(deaf.heard.size <= 300, `${deaf.heard.size} copies were open at a time`);
});
