import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, test as testOnce } from 'node:test';
import { Emitter, parseIp, silentLogger } from '../../../src/base/index.ts';
import { Outbound } from '../../../src/connector/outbound/outbound.ts';
import type { DialFrame, DialQuestion } from '../../../src/protocol/index.ts';
import { type Answer, type FakeTunnels, openFakeTunnels } from '../../support/fake-tunnels.ts';
import { HandClock } from '../manager/hand-clock.ts';

/** Of the event loop: far more than anything here takes, and no time. */
const maxTurns = 20_000;
const limit = { timeout: 10_000 };
const ip = (text: string): Uint8Array => parseIp(text) ?? new Uint8Array(4);

/** A stock traffic-manager gets a call for each tunnel, ours one stream for all. */
const ways = ['a call for each tunnel', 'one stream for all'] as const;
let way: (typeof ways)[number] = ways[0];

function test(name: string, options: typeof limit, work: () => Promise<void>): void {
  for (const each of ways) {
    testOnce(`${name} (${each})`, options, () => {
      way = each;
      return work();
    });
  }
}

let tunnels: FakeTunnels | undefined;
let outbound: Outbound | undefined;
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) {
    socket.destroy();
  }
  outbound?.dispose();
  await tunnels?.close();
});

/** The daemon's end of the dial channel: says things, and hears the answers in order. */
class FakeDaemon {
  readonly #frames = new Emitter<DialFrame>();
  readonly #heard: DialFrame[] = [];
  readonly #waiting: ((frame: DialFrame) => void)[] = [];
  readonly onFrameReceived = this.#frames.event;

  send(frame: DialFrame): void {
    const next = this.#waiting.shift();
    if (next) {
      next(frame);
    } else {
      this.#heard.push(frame);
    }
  }

  say(frame: DialFrame): void {
    this.#frames.fire(frame);
  }

  next(): Promise<DialFrame> {
    const heard = this.#heard.shift();
    return heard ? Promise.resolve(heard) : new Promise((resolve) => this.#waiting.push(resolve));
  }
}

const question = (id: number, over: Partial<DialQuestion> = {}): DialQuestion => ({
  type: 'dial',
  id,
  protocol: 'tcp',
  source: ip('10.9.9.9'),
  sourcePort: 40_000,
  // The address that the accepted connection will come from: the device shows the destination itself.
  destination: ip('127.0.0.1'),
  destinationPort: 80,
  peerPort: 0,
  ...over,
});

async function start(
  answer: () => Answer,
  options: { readonly isLinked?: boolean; readonly toReal?: (address: Uint8Array) => Uint8Array | undefined } = {},
) {
  const clock = new HandClock();
  const daemon = new FakeDaemon();
  const fake = await openFakeTunnels(answer, clock, { isCarried: way === ways[1] });
  tunnels = fake;
  const made = new Outbound({
    ...fake.deps,
    ...(options.isLinked === false ? { tunnels: () => undefined } : {}),
    daemon,
    log: silentLogger,
    toReal: options.toReal ?? ((address) => address),
    lookup: async (name, qtype) => {
      if (name === 'broken.') {
        throw new Error('no manager');
      }
      return { rcode: 0, records: Uint8Array.of(qtype) };
    },
  });
  outbound = made;
  return { clock, daemon, fake, listener: await made.listen('127.0.0.1') };
}

/** A local program's connection, as the kernel makes it after a yes. The port is chosen first: the daemon knows it. */
async function localPort(): Promise<number> {
  const { createServer } = await import('node:net');
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  server.close();
  await once(server, 'close');
  return port;
}

/** Hung up on, in whichever way. */
async function ended(socket: Socket): Promise<void> {
  socket.resume();
  await Promise.race([once(socket, 'end'), once(socket, 'close')]);
}

function program(listener: number, port: number): Socket {
  const socket = connect({ host: '127.0.0.1', port: listener, localPort: port, allowHalfOpen: true });
  socket.on('error', () => undefined);
  sockets.push(socket);
  return socket;
}

test(
  'an admitted connection is joined with its tunnel, and what the far end said first is not lost',
  limit,
  async () => {
    const { daemon, fake, listener } = await start(() => ({
      kind: 'program',
      onSocket: (socket) => {
        socket.write('220 ready\n');
        socket.on('data', (chunk) => socket.end(`you said ${chunk}`));
      },
    }));
    const port = await localPort();
    daemon.say(question(1, { peerPort: port }));
    assert.deepEqual(await daemon.next(), { type: 'answer', id: 1, result: 'ok' });
    assert.deepEqual(fake.asked, ['tcp 127.0.0.1:80']);
    const socket = program(listener, port);
    const [greeting] = (await once(socket, 'data')) as [Buffer];
    assert.equal(greeting.toString(), '220 ready\n');
    socket.end('hello');
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.equal(answer.toString(), 'you said hello');
  },
);

test('a connection that nobody waits for is destroyed', limit, async () => {
  const { listener } = await start(() => ({ kind: 'echo' }));
  const socket = program(listener, await localPort());
  await ended(socket);
  assert.equal(socket.bytesRead, 0);
});

test('a yes is good for one connection only', limit, async () => {
  const { daemon, listener } = await start(() => ({ kind: 'program', onSocket: (socket) => socket.end('one') }));
  const port = await localPort();
  daemon.say(question(1, { peerPort: port }));
  await daemon.next();
  const first = program(listener, port);
  assert.equal((await once(first, 'data')).toString(), 'one');
  first.resetAndDestroy();
  await once(first, 'close');
  const second = program(listener, port);
  await ended(second);
  assert.equal(second.bytesRead, 0);
});

for (const result of ['refused', 'unreachable', 'timeout', 'prohibited'] as const) {
  test(`a dial that ends as ${result} in the cluster is answered as that`, limit, async () => {
    const { daemon } = await start(() => ({ kind: 'fail', result }));
    daemon.say(question(7));
    assert.deepEqual(await daemon.next(), { type: 'answer', id: 7, result });
    daemon.say(question(8, { protocol: 'udp' }));
    assert.deepEqual(await daemon.next(), { type: 'answer', id: 8, result });
  });
}

test('a manager that does not answer is a timeout, and the tunnel is given up', limit, async () => {
  const { clock, daemon, fake } = await start(() => ({ kind: 'silent' }));
  daemon.say(question(3));
  await until(() => fake.asked.length === 1);
  clock.advance(6_999);
  assert.equal(fake.open, 1);
  clock.advance(1);
  assert.deepEqual(await daemon.next(), { type: 'answer', id: 3, result: 'timeout' });
  await until(() => fake.open === 0);
});

test('without a connection to the manager everything is unreachable', limit, async () => {
  const { daemon } = await start(() => ({ kind: 'echo' }), { isLinked: false });
  daemon.say(question(1));
  assert.deepEqual(await daemon.next(), { type: 'answer', id: 1, result: 'unreachable' });
  daemon.say(question(2, { protocol: 'udp' }));
  assert.deepEqual(await daemon.next(), { type: 'answer', id: 2, result: 'unreachable' });
});

test('a connection that is being closed opens no tunnels, and breaks nothing', limit, async () => {
  const { daemon, fake } = await start(() => ({ kind: 'silent' }));
  daemon.say(question(1));
  await until(() => fake.open === 1);
  fake.refuseNew();
  daemon.say(question(2));
  assert.deepEqual(await daemon.next(), { type: 'answer', id: 2, result: 'unreachable' });
});

test('a connection to the manager that breaks makes open questions unreachable', limit, async () => {
  const { daemon, fake } = await start(() => ({ kind: 'silent' }));
  daemon.say(question(1));
  await until(() => fake.open === 1);
  fake.breakConnection();
  assert.deepEqual(await daemon.next(), { type: 'answer', id: 1, result: 'unreachable' });
});

test('a yes that is not used within ten seconds is given up', limit, async () => {
  const { clock, daemon, fake, listener } = await start(() => ({ kind: 'echo' }));
  const port = await localPort();
  daemon.say(question(1, { peerPort: port }));
  await daemon.next();
  clock.advance(20_000);
  await until(() => fake.open === 0);
  await ended(program(listener, port));
});

test('a second yes for the same port replaces the first, whose time does not count for it', limit, async () => {
  const { clock, daemon, fake, listener } = await start(() => ({
    kind: 'program',
    onSocket: (socket) => socket.write('second'),
  }));
  const port = await localPort();
  daemon.say(question(1, { peerPort: port }));
  await daemon.next();
  clock.advance(9_000);
  daemon.say(question(2, { peerPort: port }));
  await daemon.next();
  await until(() => fake.open === 1);
  clock.advance(9_000);
  assert.equal((await once(program(listener, port), 'data')).toString(), 'second');
});

test('a connection to the manager that breaks is a reset at both programs, never an end', limit, async () => {
  const farError = Promise.withResolvers<string | undefined>();
  const { daemon, fake, listener } = await start(() => ({
    kind: 'program',
    onSocket: (socket) => {
      socket.on('error', ({ code }: NodeJS.ErrnoException) => farError.resolve(code));
      socket.on('end', () => farError.resolve('end'));
      socket.write('partial');
    },
  }));
  const port = await localPort();
  daemon.say(question(1, { peerPort: port }));
  await daemon.next();
  const socket = program(listener, port);
  await once(socket, 'data');
  const heard = Promise.race([once(socket, 'error'), once(socket, 'end')]);
  // Both ends wait for the other: nobody has ended anything.
  fake.breakConnection();
  assert.equal(((await heard)[0] as NodeJS.ErrnoException | undefined)?.code, 'ECONNRESET');
  await until(() => fake.open === 0);
  socket.destroy();
  assert.equal(await farError.promise, 'ECONNRESET');
});

test('datagrams keep their borders both ways, and the far end’s close is told', limit, async () => {
  const { daemon, fake } = await start(() => ({ kind: 'echo' }));
  daemon.say(question(5, { protocol: 'udp', destination: ip('10.1.2.3'), destinationPort: 53 }));
  assert.deepEqual(await daemon.next(), { type: 'answer', id: 5, result: 'ok' });
  assert.deepEqual(fake.asked, ['udp 10.1.2.3:53']);
  for (const size of [1, 1_400, 60_000]) {
    daemon.say({ type: 'datagram', id: 5, payload: new Uint8Array(size).fill(size & 0xff) });
    const heard = await daemon.next();
    assert.ok(heard.type === 'datagram');
    assert.deepEqual(Buffer.from(heard.payload), Buffer.alloc(size, size & 0xff));
  }
  fake.breakConnection();
  assert.deepEqual(await daemon.next(), { type: 'close', id: 5 });
});

test('a flow that the daemon closes is closed in the cluster, and says nothing more', limit, async () => {
  const { daemon, fake } = await start(() => ({ kind: 'echo' }));
  daemon.say(question(5, { protocol: 'udp' }));
  await daemon.next();
  daemon.say({ type: 'close', id: 5 });
  await until(() => fake.open === 0);
  daemon.say({ type: 'datagram', id: 5, payload: Uint8Array.of(1) });
  daemon.say({ type: 'lookup', id: 6, name: 'x.', qtype: 1 });
  assert.equal((await daemon.next()).type, 'lookup-answer');
});

test('a name is answered with what the cluster says, and SERVFAIL when nobody can be asked', limit, async () => {
  const { daemon } = await start(() => ({ kind: 'echo' }));
  daemon.say({ type: 'lookup', id: 1, name: 'a.', qtype: 28 });
  assert.deepEqual(await daemon.next(), { type: 'lookup-answer', id: 1, rcode: 0, records: Uint8Array.of(28) });
  daemon.say({ type: 'lookup', id: 2, name: 'broken.', qtype: 1 });
  assert.deepEqual(await daemon.next(), { type: 'lookup-answer', id: 2, rcode: 2, records: new Uint8Array(0) });
});

test('disposal closes what is open, what waits and what is still being asked', limit, async () => {
  let answer: Answer = { kind: 'echo' };
  const { daemon, fake } = await start(() => answer);
  daemon.say(question(1, { protocol: 'udp' }));
  await daemon.next();
  daemon.say(question(2, { peerPort: 1_234 }));
  await daemon.next();
  answer = { kind: 'silent' };
  daemon.say(question(3, { peerPort: 1_235 }));
  await until(() => fake.open === 3);
  outbound?.dispose();
  await until(() => fake.open === 0);
});

/** Waits for what other tasks of this process bring about. */
async function until(isTrue: () => boolean): Promise<void> {
  for (let turn = 0; !isTrue(); turn++) {
    assert.ok(turn < maxTurns, 'it did not happen');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test(
  'an address that stands in for another is dialled as that one, and one that stands for nothing is unreachable',
  limit,
  async () => {
    const toReal = (address: Uint8Array) => (address[3] === 7 ? ip('10.1.2.3') : undefined);
    const { daemon, fake } = await start(() => ({ kind: 'fail', result: 'refused' }), { toReal });
    daemon.say(question(1, { destination: ip('246.246.0.7') }));
    assert.deepEqual(await daemon.next(), { type: 'answer', id: 1, result: 'refused' });
    assert.deepEqual(fake.asked, ['tcp 10.1.2.3:80']);
    daemon.say(question(2, { destination: ip('246.246.0.8') }));
    assert.deepEqual(await daemon.next(), { type: 'answer', id: 2, result: 'unreachable' });
  },
);
