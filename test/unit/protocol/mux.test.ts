import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type Duplex, duplexPair } from 'node:stream';
import { test } from 'node:test';
import { type NearfieldError, parseIp, silentLogger, systemClock } from '../../../src/base/index.ts';
import { type StreamInfo, tunnelCode } from '../../../src/protocol/index.ts';
import { createGrpcServer, openHttp2, openMux, type TunnelHandlers } from '../../../src/protocol/transport/index.ts';
import { firstWindowBytes, type MuxConnection } from '../../../src/protocol/transport/mux/connection.ts';
import { MuxDecoder, muxCode, muxFrame } from '../../../src/protocol/transport/mux/frame.ts';
import { Mux } from '../../../src/protocol/transport/mux/mux.ts';
import { waitFor } from '../../cluster/shell.ts';

const limit = { timeout: 10_000 };
const address = parseIp('127.0.0.1') ?? new Uint8Array(4);
const info: StreamInfo = {
  id: { protocol: 'tcp', source: address, sourcePort: 40_000, destination: address, destinationPort: 3000 },
  sessionId: 'ann',
  dialTimeoutMs: 1_000,
  roundtripLatencyMs: 500,
};

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

function pair(): Pair {
  const streams = duplexPair();
  const opened: MuxConnection[] = [];
  const near = new Mux(streams[0]);
  const far = new Mux(streams[1], (connection) => opened.push(connection));
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

test('frames that are compressed, too short or too long are malformed', () => {
  const push = (text: string): string | undefined =>
    new MuxDecoder({ data: () => undefined, control: () => undefined }).push(Buffer.from(text, 'hex'));
  assert.equal(push('01000000050000000001'), 'compressed frame');
  assert.equal(push('00000000040000000001'), 'frame too short');
  assert.equal(push('007fffffff0000000001'), 'frame too long');
  assert.equal(push('00000004060600000001'), 'frame too long');
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
    const [stream, peer] = duplexPair();
    const mux = new Mux(stream);
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
  const [stream, peer] = duplexPair();
  const mux = new Mux(stream);
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
  const [stream, peer] = duplexPair();
  const mux = new Mux(stream);
  peer.resume();
  peer.once('end', () => peer.end());
  peer.write(muxFrame(muxCode.normal, 12, Buffer.from('late')));
  peer.write(muxFrame(muxCode.finish, 12, new Uint8Array(0)));
  peer.write(muxFrame(muxCode.leave, 0, new Uint8Array(0)));
  assert.equal(await mux.closed, undefined);
});

test('an agent takes the call of a session that it knows, and refuses others', limit, async () => {
  const served: string[] = [];
  const grpc = createGrpcServer({
    clock: systemClock,
    service: 'agent',
    acceptTunnel: (stream) => stream.reset(),
    routes: () => undefined,
    mux: { isKnown: ({ sessionId }) => sessionId === 'ann', onMux: (_, { sessionId }) => void served.push(sessionId) },
    log: silentLogger,
  });
  const host = '127.0.0.1';
  const session = await openHttp2({ host, port: await grpc.listen(0, host) }, { clock: systemClock });
  const { signal } = new AbortController();
  const ask = (sessionId: string): Promise<Mux | undefined> =>
    openMux(session, { clock: systemClock, service: 'agent', sessionId, onOpen: () => undefined, signal });
  try {
    assert.ok(await ask('ann'));
    await assert.rejects(ask('eve'), { code: 'permission_denied' });
    await assert.rejects(ask('x'.repeat(600)), { code: 'permission_denied' });
    assert.deepEqual(served, ['ann']);
  } finally {
    session.destroy();
    await grpc.close();
  }
});

test('a peer without such calls is asked for nothing else', limit, async () => {
  const grpc = createGrpcServer({
    clock: systemClock,
    service: 'agent',
    acceptTunnel: (stream) => stream.reset(),
    routes: () => undefined,
  });
  const host = '127.0.0.1';
  const session = await openHttp2({ host, port: await grpc.listen(0, host) }, { clock: systemClock });
  const { signal } = new AbortController();
  try {
    const mux = await openMux(session, {
      clock: systemClock,
      service: 'agent',
      sessionId: 'ann',
      onOpen: () => undefined,
      signal,
    });
    assert.equal(mux, undefined);
    assert.equal(session.destroyed, false);
  } finally {
    session.destroy();
    await Promise.all([once(session, 'close').catch(() => undefined), grpc.close()]);
  }
});
