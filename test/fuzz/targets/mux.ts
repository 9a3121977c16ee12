import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { systemClock } from '../../../src/base/index.ts';
import { type StreamInfo, serializeStreamInfo } from '../../../src/protocol/index.ts';
import type { TunnelHandlers } from '../../../src/protocol/transport/index.ts';
import type { MuxConnection } from '../../../src/protocol/transport/mux/connection.ts';
import { MuxDecoder, muxCode, muxFrame } from '../../../src/protocol/transport/mux/frame.ts';
import { Mux } from '../../../src/protocol/transport/mux/mux.ts';
import type { Random } from '../random.ts';
import type { Target } from '../target.ts';

const info: StreamInfo = {
  ...{ roundtripLatencyMs: 1, dialTimeoutMs: 1_000, sessionId: 'x' },
  id: {
    ...{ protocol: 'tcp', source: Uint8Array.of(10, 0, 0, 1), sourcePort: 1 },
    ...{ destination: Uint8Array.of(10, 0, 0, 2), destinationPort: 2 },
  },
};
const nothing = new Uint8Array(0);
const opened = muxFrame(muxCode.streamInfo, 1, serializeStreamInfo(info));
const credit = (number: number): Uint8Array => muxFrame(muxCode.credit, number, Uint8Array.of(0, 4, 0, 0));

function* cut(input: Uint8Array, size: () => number): Generator<Uint8Array> {
  for (let at = 0; at < input.length; ) {
    const end = Math.min(input.length, at + size());
    yield input.slice(at, end);
    at = end;
  }
}

function decode(input: Uint8Array, size: () => number): { seen: string[]; why: string | undefined } {
  const seen: string[] = [];
  let payload = '';
  const decoder = new MuxDecoder({
    data: (number, slice, last) => {
      payload += Buffer.from(slice).toString('hex');
      if (last) {
        seen.push(`${number} ${payload}`);
        payload = '';
      }
    },
    control: (code, number, body) => void seen.push(`${code} ${number} ${Buffer.from(body).toString('hex')}`),
  });
  let why: string | undefined;
  for (const piece of cut(input, size)) {
    why = decoder.push(piece);
    if (why !== undefined) {
      break;
    }
  }
  return { seen, why };
}

/** Both kinds of end hear `input` from a stranger: each connection is told its end once, and nothing is kept. */
async function hear(input: Uint8Array, isTaking: boolean, random: Random): Promise<void> {
  const [stream, peer] = duplexPair();
  const ends: number[] = [];
  const listen = (connection: MuxConnection): void => {
    const index = ends.push(0) - 1;
    const handlers: TunnelHandlers = {
      onControl: () => connection.send(muxCode.dialOk),
      onData: (slice) => (random.once(4) ? connection.pause() : void connection.sendData(slice)),
      onEnd: () => connection.endSend(),
      onDrain: () => connection.resume(),
      onClose: () => {
        ends[index] = (ends[index] ?? 0) + 1;
      },
    };
    connection.start(handlers);
  };
  const mux = new Mux(stream, {
    side: isTaking ? 'server' : 'client',
    clock: systemClock,
    onOpen: isTaking ? listen : undefined,
  });
  for (let count = isTaking ? 0 : 2; count > 0; count--) {
    const connection = mux.open(info);
    assert.ok(connection);
    listen(connection);
  }
  peer.on('error', () => undefined);
  peer.resume();
  for (const piece of cut(input, () => 1 + random.below(60))) {
    peer.write(piece);
  }
  await new Promise((resolve) => setImmediate(resolve));
  stream.destroy();
  peer.destroy();
  await mux.closed;
  assert.equal(mux.size, 0);
  assert.ok(
    ends.every((times) => times === 1),
    `ends: ${ends.join()}`,
  );
}

/** Frames of many connections in one stream: cut anyhow they mean the same, and whatever they are, connections end well. */
export function openMuxTarget(): Target {
  return {
    seeds: [
      Buffer.concat([opened, muxFrame(muxCode.normal, 1, new Uint8Array(300).fill(9)), credit(1)]),
      Buffer.concat([opened, muxFrame(muxCode.closeSend, 1, nothing), muxFrame(muxCode.finish, 1, nothing)]),
      Buffer.concat([muxFrame(muxCode.dialOk, 1, nothing), muxFrame(muxCode.normal, 3, new Uint8Array(5)), credit(3)]),
      Buffer.concat([muxFrame(muxCode.drop, 1, nothing), muxFrame(muxCode.leave, 0, nothing)]),
      Buffer.concat([muxFrame(muxCode.ping, 0, nothing), muxFrame(muxCode.pong, 0, nothing)]),
      Buffer.concat([muxFrame(muxCode.disconnect, 3, nothing), muxFrame(muxCode.finish, 3, nothing)]),
    ],
    async run(input, random) {
      assert.deepEqual(
        decode(input, () => 1 + random.below(9)),
        decode(input, () => input.length),
      );
      await hear(input, random.once(2), random);
    },
    settle: () => undefined,
    close: () => undefined,
  };
}
