import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { createServer } from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { type Duplex, duplexPair } from 'node:stream';
import { afterEach, test } from 'node:test';
import {
  type Clock,
  createLogger,
  type LogLine,
  type NearfieldError,
  parseIp,
  systemClock,
} from '../../../src/base/index.ts';
import { type StreamInfo, serializeStreamInfo, tunnelCode } from '../../../src/protocol/index.ts';
import {
  createGrpcServer,
  type MuxGuest,
  muxUpgrade,
  openMux,
  type TunnelHandlers,
} from '../../../src/protocol/transport/index.ts';
import { firstWindowBytes, type MuxConnection } from '../../../src/protocol/transport/mux/connection.ts';
import { MuxDecoder, muxCode, muxFrame } from '../../../src/protocol/transport/mux/frame.ts';
import { Mux } from '../../../src/protocol/transport/mux/mux.ts';
import { helloSchema, muxPreface, openingBody, readOpening } from '../../../src/protocol/transport/mux/opening.ts';
import { waitFor } from '../../cluster/shell.ts';
import { HandClock } from '../manager/hand-clock.ts';

const limit = { timeout: 10_000 };
const address = parseIp('127.0.0.1') ?? new Uint8Array(4);
const info: StreamInfo = {
  id: { protocol: 'tcp', source: address, sourcePort: 40_000, destination: address, destinationPort: 3000 },
  sessionId: 'ann',
  dialTimeoutMs: 1_000,
  roundtripLatencyMs: 500,
};

const open: Duplex[] = [];
/** For the time of one test. */
function duplexes(): [Duplex, Duplex] {
  const both = duplexPair();
  open.push(...both);
  return both;
}
afterEach(() => {
  for (const each of open.splice(0)) {
    each.on('error', () => undefined).destroy();
  }
});

/** What one end of a connection was told, in order; data as text, neighbours joined. */
class Ear implements TunnelHandlers {
  readonly events: string[] = [];
  readonly #data: string[] = [];
  bytes = 0;
  error: NearfieldError | undefined;
  onDrain = (): void => void this.events.push('drain');
  onControl = (code: number): void => void this.events.push(`code ${code}`);
  onEnd = (): void => void this.events.push('end');
  onData = (slice: Uint8Array): void => {
    this.bytes += slice.length;
    this.#data.push(Buffer.from(slice).toString('latin1'));
  };
  onClose = (error?: NearfieldError): void => {
    this.error = error;
    this.events.push('close');
  };
  get text(): string {
    return this.#data.join('');
  }
}

interface Pair {
  readonly near: Mux;
  readonly far: Mux;
  readonly streams: readonly [Duplex, Duplex];
  /** The far ends. */
  readonly opened: readonly MuxConnection[];
  /** Opens a connection; both of its ends. */
  open(): Promise<readonly [MuxConnection, MuxConnection]>;
}

function pair(clock: Clock = systemClock): Pair {
  const streams = duplexes();
  const opened: MuxConnection[] = [];
  const near = new Mux(streams[0], { side: 'client', clock });
  const far = new Mux(streams[1], { side: 'server', clock, onOpen: (connection) => opened.push(connection) });
  return {
    near,
    far,
    streams,
    opened,
    async open() {
      const count = opened.length;
      const mine = near.open(info) ?? assert.fail('not opened');
      return [mine, await waitFor('the far end', 5_000, () => opened[count])];
    },
  };
}

const until = (what: string, isDone: () => boolean): Promise<true> =>
  waitFor(what, 5_000, () => (isDone() ? (true as const) : undefined));

test('frames come out as they went in, wherever they are cut', () => {
  const bytes = Buffer.concat([
    muxFrame(muxCode.normal, 7, Buffer.from('hello')),
    muxFrame(muxCode.credit, 0xff_ff_ff_ff, Buffer.from([0, 0, 1, 0])),
    muxFrame(muxCode.normal, 7, new Uint8Array(0)),
    muxFrame(muxCode.finish, 8, new Uint8Array(0)),
  ]);
  for (let size = 1; size <= bytes.length; size++) {
    const seen: string[] = [];
    let text = '';
    const decoder = new MuxDecoder({
      data: (connection, slice, last) => {
        text += Buffer.from(slice).toString();
        if (last) {
          seen.push(`${connection} ${text}`);
          text = '';
        }
      },
      control: (code, connection, body) => seen.push(`${code} ${connection} ${Buffer.from(body).toString('hex')}`),
    });
    for (let at = 0; at < bytes.length; at += size) {
      assert.equal(decoder.push(bytes.subarray(at, at + size)), undefined);
    }
    assert.deepEqual(seen, ['7 hello', '18 4294967295 00000100', '7 ', '16 8 ']);
  }
});

test('frames that are too long are malformed', () => {
  const push = (text: string): string | undefined =>
    new MuxDecoder({ data: () => undefined, control: () => undefined }).push(Buffer.from(text, 'hex'));
  assert.equal(push('7fffffff0000000001'), 'frame too long');
  assert.equal(push('000004010600000001'), 'frame too long');
});

test('a connection carries bytes both ways, and each direction ends by itself', limit, async () => {
  const { near, far, open } = pair();
  const [mine, theirs] = await open();
  const [here, there] = [new Ear(), new Ear()];
  mine.start(here);
  theirs.send(tunnelCode.dialOk);
  theirs.start(there);
  mine.sendData(Buffer.from('question'));
  mine.endSend();
  await until('the question', () => there.events.includes('end'));
  assert.equal(there.text, 'question');
  theirs.sendData(Buffer.from('answer'));
  theirs.endSend();
  await until('the end', () => here.events.includes('close') && there.events.includes('close'));
  assert.deepEqual(here.events, ['code 4', 'end', 'close']);
  assert.equal(here.text, 'answer');
  assert.deepEqual([here.error, there.error, near.size, far.size], [undefined, undefined, 0, 0]);
});

test('what many connections say in one turn leaves in one piece', limit, async () => {
  const { streams, open } = pair();
  const connections = [await open(), await open(), await open()];
  const ears = connections.map(([mine, theirs]) => {
    const ear = new Ear();
    mine.start(new Ear());
    theirs.start(ear);
    return ear;
  });
  let pieces = 0;
  streams[1].on('data', () => pieces++);
  for (const [mine] of connections) {
    mine.sendData(Buffer.from('a'));
    mine.sendData(Buffer.from('b'));
  }
  await until('all words', () => ears.every(({ text }) => text === 'ab'));
  assert.equal(pieces, 1);
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('what nobody waits for leaves with what the next turn brings, and never keeps a word waiting', limit, async () => {
  const { near, streams, opened } = pair();
  let pieces = 0;
  streams[1].on('data', () => pieces++);
  const mine = near.open(info, true) ?? assert.fail('not opened');
  mine.start(new Ear());
  await turn();
  mine.sendData(Buffer.from('question'));
  await until('the far end', () => opened.length === 1);
  const theirs = opened[0] ?? assert.fail('not opened');
  const ear = new Ear();
  theirs.start(ear);
  assert.equal(ear.text, 'question');
  assert.equal(pieces, 1);
  mine.endSend();
  await until('the end', () => ear.events.includes('end'));
  assert.equal(pieces, 2, 'alone it leaves all the same');
  const answers = new Ear();
  let answered = 0;
  streams[0].on('data', () => answered++);
  mine.start(answers);
  theirs.sendSoon(tunnelCode.dialOk);
  theirs.sendData(Buffer.from('answer'));
  await turn();
  await until('the answer', () => answers.text === 'answer');
  assert.deepEqual([answers.events, answered], [[`code ${tunnelCode.dialOk}`], 1]);
});

test('who stands still stops its writer and nobody else, and gets everything when it goes on', limit, async () => {
  const { open } = pair();
  const [slow, slowFar] = await open();
  const [quick, quickFar] = await open();
  const [slowEar, quickEar, writer] = [new Ear(), new Ear(), new Ear()];
  slow.start(writer);
  quick.start(new Ear());
  slowFar.start(slowEar);
  quickFar.start(quickEar);
  slowFar.pause();
  const piece = Buffer.alloc(16 * 1024, 'x');
  let sent = 0;
  let isFull = false;
  await until('the window being full', () => {
    while (!isFull) {
      sent += piece.length;
      isFull = !slow.sendData(piece);
    }
    const isOver = sent >= firstWindowBytes && !writer.events.includes('drain');
    isFull = isOver || !writer.events.splice(0).includes('drain');
    return isOver;
  });
  assert.ok(sent <= firstWindowBytes + piece.length, `${sent} bytes were on their way`);
  quick.sendData(Buffer.from('quick'));
  await until('the other one', () => quickEar.text === 'quick');
  assert.equal(slowEar.bytes, 0);
  slowFar.resume();
  await until('the writer being told', () => writer.events.includes('drain'));
  slow.endSend();
  await until('the rest', () => slowEar.events.includes('end'));
  assert.equal(slowEar.bytes, sent);
});

test('a reader that keeps up gets a larger window', limit, async () => {
  const { open } = pair();
  const [mine, theirs] = await open();
  const ear = new Ear();
  const writer = new Ear();
  mine.start(writer);
  theirs.start(ear);
  const piece = Buffer.alloc(64 * 1024);
  const total = 16 * 1024 * 1024;
  let sent = 0;
  let mayGoOn = true;
  writer.onDrain = () => {
    mayGoOn = true;
    pour();
  };
  const pour = (): void => {
    while (mayGoOn && sent < total) {
      sent += piece.length;
      mayGoOn = mine.sendData(piece);
    }
  };
  pour();
  await until('all of it', () => ear.bytes === total);
  theirs.pause();
  let inFlight = 0;
  await until('the window being full', () => {
    while (mayGoOn) {
      inFlight += piece.length;
      mayGoOn = mine.sendData(piece);
    }
    return inFlight > 2 * firstWindowBytes;
  });
});

test('a hard close is a message, and giving up is a failure', limit, async () => {
  const { open } = pair();
  const [closed, closedFar] = await open();
  const [dropped, droppedFar] = await open();
  const [closedEar, droppedEar] = [new Ear(), new Ear()];
  closed.start(new Ear());
  dropped.start(new Ear());
  closedFar.start(closedEar);
  droppedFar.start(droppedEar);
  closed.send(tunnelCode.disconnect);
  closed.finish();
  dropped.reset();
  await until('both ends', () => closedEar.events.includes('close') && droppedEar.events.includes('close'));
  assert.deepEqual([closedEar.events, closedEar.error], [['code 6', 'end', 'close'], undefined]);
  assert.deepEqual([droppedEar.events, droppedEar.error?.reason], [['close'], 'protocol.stream-broken']);
});

test('one that was given up before anybody listened to it says so to who does', limit, async () => {
  const { open } = pair();
  const [mine, theirs] = await open();
  mine.reset();
  await until('the news', () => theirs.isClosed);
  const ear = new Ear();
  theirs.start(ear);
  await until('being told', () => ear.events.includes('close'));
  assert.equal(ear.error?.reason, 'protocol.stream-broken');
});

test('when the stream is lost all its connections are', limit, async () => {
  const { near, far, streams, open } = pair();
  const [mine, theirs] = await open();
  const [here, there] = [new Ear(), new Ear()];
  mine.start(here);
  theirs.start(there);
  streams[0].destroy();
  streams[1].destroy();
  assert.equal((await near.closed)?.reason, 'protocol.stream-broken');
  await far.closed;
  await until('both being told', () => here.error !== undefined && there.error !== undefined);
  assert.equal(near.open(info), undefined);
});

test('who leaves gets no new connections, and the stream ends with the last one', limit, async () => {
  const { near, far, open, opened } = pair();
  const [mine, theirs] = await open();
  mine.start(new Ear());
  const ear = new Ear();
  theirs.start(ear);
  far.leave();
  await until('the request', () => {
    const another = near.open(info);
    another?.finish();
    return another === undefined;
  });
  for (const another of opened.slice(1)) {
    another.start(new Ear());
  }
  mine.sendData(Buffer.from('last words'));
  mine.finish();
  assert.deepEqual([await near.closed, await far.closed], [undefined, undefined]);
  assert.equal(ear.text, 'last words');
});

const hostile: readonly (readonly [string, (number: number) => readonly Uint8Array[]])[] = [
  [
    'more data than there is room for',
    (number) => Array.from({ length: 40 }, () => muxFrame(muxCode.normal, number, Buffer.alloc(100_000))),
  ],
  ['a connection towards whoever only opens', () => [muxFrame(muxCode.streamInfo, 99, Buffer.alloc(40))]],
  ['a credit that is no number', (number) => [muxFrame(muxCode.credit, number, Buffer.alloc(3))]],
  ['bytes that are no frame', () => [Buffer.from('GET / HTTP/1.1\r\n\r\n')]],
];
for (const [what, frames] of hostile) {
  test(`${what} ends the stream`, limit, async () => {
    const [stream, peer] = duplexes();
    const mux = new Mux(stream, { side: 'client', clock: systemClock });
    const connection = mux.open(info) ?? assert.fail('not opened');
    const ear = new Ear();
    connection.start(ear);
    connection.pause();
    peer.resume();
    peer.on('error', () => undefined);
    for (const frame of frames(connection.number)) {
      peer.write(frame);
    }
    assert.equal((await mux.closed)?.reason, 'protocol.malformed');
    assert.equal(ear.error?.reason, 'protocol.malformed');
  });
}

test('what comes byte by byte for a reader that stands still is not kept without end', limit, async () => {
  const [stream, peer] = duplexes();
  const mux = new Mux(stream, { side: 'client', clock: systemClock });
  const connections = Array.from({ length: 4 }, () => mux.open(info) ?? assert.fail('not opened'));
  for (const connection of connections) {
    connection.start(new Ear());
    connection.pause();
  }
  peer.resume();
  const words = connections.map(({ number }) =>
    Buffer.concat(Array.from({ length: 10_000 }, () => muxFrame(muxCode.normal, number, Buffer.alloc(1)))),
  );
  let said = 0;
  const say = (): void => {
    let hasRoom = true;
    while (said < 60 && hasRoom) {
      hasRoom = peer.write(words[said++ % words.length]);
    }
  };
  peer.on('drain', say);
  say();
  await until('the stream being left unread', () => stream.isPaused());
  assert.ok(said < 60, 'half a million words are too many');
  for (const connection of connections) {
    connection.resume();
  }
  await until('its being read again', () => said === 60 && !stream.isPaused());
});

test('frames for a connection that is over are for nobody', limit, async () => {
  const [stream, peer] = duplexes();
  const mux = new Mux(stream, { side: 'client', clock: systemClock });
  peer.resume();
  peer.once('end', () => peer.end());
  peer.write(muxFrame(muxCode.normal, 12, Buffer.from('late')));
  peer.write(muxFrame(muxCode.finish, 12, new Uint8Array(0)));
  peer.write(muxFrame(muxCode.leave, 0, new Uint8Array(0)));
  assert.equal(await mux.closed, undefined);
});

test('both ends open connections, and neither mistakes the other’s for its own', limit, async () => {
  const streams = duplexes();
  const opened: MuxConnection[] = [];
  const onOpen = (connection: MuxConnection): void => {
    opened.push(connection);
    connection.start(new Ear());
    connection.sendData(Buffer.from('welcome'));
  };
  const ends = [
    new Mux(streams[0], { side: 'client', clock: systemClock, onOpen }),
    new Mux(streams[1], { side: 'server', clock: systemClock, onOpen }),
  ];
  const ears = [...ends, ...ends].map((end) => {
    const ear = new Ear();
    (end.open(info) ?? assert.fail('not opened')).start(ear);
    return ear;
  });
  await until('all answers', () => ears.every(({ text }) => text === 'welcome'));
  assert.deepEqual(opened.map(({ number }) => number).sort(), [1, 2, 3, 4]);
});

test('a number of the other end’s own is malformed', limit, async () => {
  const [stream, peer] = duplexes();
  const mux = new Mux(stream, { side: 'server', clock: systemClock, onOpen: () => assert.fail('opened') });
  peer.on('error', () => undefined);
  peer.write(muxFrame(muxCode.streamInfo, 2, serializeStreamInfo(info)));
  assert.equal((await mux.closed)?.reason, 'protocol.malformed');
});

test('who asks and asks and takes no answer is given up', limit, async () => {
  const [stream, peer] = duplexes();
  const mux = new Mux(stream, { side: 'server', clock: systemClock, onOpen: (each) => each.finish('x'.repeat(900)) });
  peer.on('error', () => undefined);
  let number = 1;
  const say = (): void => {
    let hasRoom = true;
    while (hasRoom && !stream.destroyed) {
      hasRoom = peer.write(muxFrame(muxCode.streamInfo, number, serializeStreamInfo(info)));
      number += 2;
    }
  };
  peer.on('drain', () => setImmediate(say));
  say();
  assert.equal((await mux.closed)?.reason, 'protocol.malformed');
  assert.ok(number > 10_000, 'a few thousand are nothing');
});

test('who says nothing any more is given up, and who answers is not', limit, async () => {
  const clock = new HandClock();
  const { near, far, streams } = pair(clock);
  let isOver = false;
  void near.closed.then(() => {
    isOver = true;
  });
  for (let seconds = 0; seconds < 60; seconds += 5) {
    clock.advance(5_000);
    await turn();
    await turn();
    await turn();
  }
  assert.equal(isOver, false);
  streams[1].removeAllListeners('data');
  streams[1].pause();
  clock.advance(25_000);
  assert.equal((await near.closed)?.reason, 'protocol.stream-broken');
  far.close();
  await far.closed;
  assert.equal(clock.timers, 0);
});

test('a check finds out within three seconds', limit, async () => {
  const clock = new HandClock();
  const { near, far, streams } = pair(clock);
  near.check();
  await until('the question being answered', () => clock.timers === 2);
  clock.advance(3_000);
  assert.equal(near.open(info) === undefined, false);
  streams[1].removeAllListeners('data');
  streams[1].pause();
  near.check();
  clock.advance(3_000);
  assert.equal((await near.closed)?.reason, 'protocol.stream-broken');
  far.close();
});

test('an end that has too much unread says that it is there', limit, async () => {
  const clock = new HandClock();
  const [stream, peer] = duplexes();
  const mux = new Mux(stream, { side: 'client', clock });
  const said: number[] = [];
  const decoder = new MuxDecoder({ data: () => undefined, control: (code) => said.push(code) });
  peer.on('data', (chunk: Buffer) => decoder.push(chunk));
  const words = Array.from({ length: 60 }, () => {
    const connection = mux.open(info) ?? assert.fail('not opened');
    connection.start(new Ear());
    connection.pause();
    const word = muxFrame(muxCode.normal, connection.number, Buffer.alloc(1));
    return Buffer.concat(Array.from({ length: 10_000 }, () => word));
  });
  const say = (): void => {
    while (words.length > 0 && peer.write(words.pop())) {
      // As long as there is room.
    }
  };
  peer.on('drain', say);
  say();
  await until('the stream being left unread', () => stream.isPaused());
  clock.advance(30_000);
  assert.equal(stream.destroyed, false, 'nor is the far end given up, which cannot make itself heard');
  await until('a sign of life', () => said.includes(muxCode.pong));
  mux.close();
  await mux.closed;
});

interface Asked {
  readonly mux: Mux | undefined;
  readonly socket: Socket;
}

/** A server that knows ann, and `ask` in the name of others. `without`: one that has nothing of the kind. */
async function serving(isKnown: ((guest: MuxGuest) => boolean) | undefined, use: (port: number) => Promise<void>) {
  const lines: LogLine[] = [];
  const grpc = createGrpcServer({
    clock: systemClock,
    service: 'agent',
    acceptTunnel: (stream) => stream.reset(),
    routes: () => undefined,
    ...(isKnown ? { mux: { isKnown, onOpen: (each) => each.reset() } } : {}),
    log: createLogger({ sink: (line) => void lines.push(line), wallMs: () => 0 }),
  });
  try {
    await use(await grpc.listen(0, '127.0.0.1'));
  } finally {
    await grpc.close();
  }
  return lines;
}

async function ask(port: number, sessionId: string, over?: Socket): Promise<Asked> {
  const socket = over ?? connect(port, '127.0.0.1');
  const { signal } = new AbortController();
  const mux = await openMux(socket, { clock: systemClock, sessionId, authorization: 'Bearer x', signal });
  return { mux, socket };
}

test('who is known gets connections in one, and others are told that they are not', limit, async () => {
  const guests: MuxGuest[] = [];
  const isKnown = (guest: MuxGuest): boolean => {
    guests.push(guest);
    return guest.sessionId === 'ann';
  };
  await serving(isKnown, async (port) => {
    const { mux } = await ask(port, 'ann');
    assert.ok(mux?.open(info));
    await assert.rejects(ask(port, 'eve'), { code: 'permission_denied' });
  });
  const [{ caller, authorization } = assert.fail('nobody')] = guests;
  assert.deepEqual({ caller, authorization }, { caller: { address: '127.0.0.1' }, authorization: 'Bearer x' });
});

test('a server that has it not, and one of HTTP/2 that never heard of it, end the connection', limit, async () => {
  await serving(undefined, async (port) => assert.equal((await ask(port, 'ann')).mux, undefined));
  const http2 = createServer();
  http2.on('sessionError', () => undefined);
  http2.listen(0, '127.0.0.1');
  await once(http2, 'listening');
  const { mux, socket } = await ask((http2.address() as AddressInfo).port, 'ann');
  assert.equal(mux, undefined);
  assert.equal(socket.destroyed, true);
  http2.close();
});

test('who is known by a name that is too long, or in no well-formed words, is nobody', limit, async () => {
  const lines = await serving(
    () => true,
    async (port) => {
      assert.equal((await ask(port, 'x'.repeat(600))).mux, undefined);
      for (const words of ['\0\x02[]', '\xff\xff{}', '\0\x01{', 'and more', '\0\x10{"session":12345}']) {
        const socket = connect(port, '127.0.0.1');
        socket.write(Buffer.concat([muxPreface, Buffer.from(words, 'latin1'), Buffer.alloc(20_000)]));
        socket.resume();
        socket.on('error', () => undefined);
        await once(socket, 'close');
      }
    },
  );
  assert.ok(lines.some(({ fields }) => fields?.['what'] === 'a connection that is not well-formed'));
});

test('who goes without a word is not written about', limit, async () => {
  const lines = await serving(
    () => true,
    async (port) => {
      const asked = request({
        ...{ host: '127.0.0.1', port, path: muxUpgrade.path },
        headers: { connection: 'Upgrade', upgrade: muxUpgrade.protocol },
      });
      asked.end();
      const [, socket, head] = (await once(asked, 'upgrade')) as [unknown, Socket, Buffer];
      socket.unshift(head);
      const [greeting] = (await once(socket, 'data')) as [Buffer];
      assert.deepEqual(greeting, muxPreface);
      socket.end();
      await once(socket, 'close');
    },
  );
  assert.deepEqual(lines, []);
});

test('the opening means the same wherever it is cut, and what follows is not lost', limit, async () => {
  const words = Buffer.concat([muxPreface, openingBody({ session: 'ann' }), Buffer.from('more')]);
  for (let at = 1; at < words.length; at++) {
    const [near, far] = duplexes();
    const reading = readOpening(near, helloSchema);
    far.write(words.subarray(0, at));
    await turn();
    far.write(words.subarray(at));
    assert.deepEqual(await reading, { session: 'ann' });
    far.end();
    assert.equal(Buffer.concat(await near.toArray()).toString(), 'more');
  }
});
