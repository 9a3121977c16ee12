import assert from 'node:assert/strict';
import { type DialFrame, DialFrameReader, DialFrameWriter, serializeDialFrame } from '../../../src/protocol/index.ts';
import { ip } from '../../unit/daemon/packets.ts';
import type { Target } from '../target.ts';

const question = {
  type: 'dial',
  id: 7,
  protocol: 'tcp',
  source: ip('10.0.0.1'),
  sourcePort: 40_000,
  destination: ip('10.0.0.2'),
  destinationPort: 80,
  peerPort: 40_000,
} as const;
const frames: readonly DialFrame[] = [
  { type: 'hello', token: 'f'.repeat(64) },
  question,
  { ...question, protocol: 'udp', source: ip('fd00::1'), destination: ip('fd00::2') },
  { type: 'answer', id: 7, result: 'ok' },
  { type: 'datagram', id: 9, payload: new Uint8Array(33).fill(7) },
  { type: 'close', id: 7 },
  { type: 'lookup', id: 8, qtype: 1, name: 'a.b.' },
  { type: 'lookup-answer', id: 8, rcode: 0, records: new Uint8Array(20) },
];

/** All frames, then `end` or what was wrong; views copied out, as they last until the next push only. */
function readAll(input: Uint8Array, sizes: () => number): string[] {
  const reader = new DialFrameReader();
  const seen: string[] = [];
  for (let at = 0; at < input.length; ) {
    const end = Math.min(input.length, at + sizes());
    reader.push(input.slice(at, end));
    at = end;
    for (let read = reader.read(); read.kind !== 'need-more'; read = reader.read()) {
      if (read.kind === 'malformed') {
        return [...seen, read.why];
      }
      seen.push(Buffer.from(serializeDialFrame(read.value)).toString('hex'));
    }
  }
  return seen;
}

/** Framing: however a stream is cut, the same frames come out, and they serialise to what came in. */
export function openDialTarget(): Target {
  return {
    seeds: [
      ...frames.map(serializeDialFrame),
      Uint8Array.from(frames.flatMap((frame) => [...serializeDialFrame(frame)])),
    ],
    run(input, random) {
      const whole = readAll(input, () => input.length);
      assert.deepEqual(
        readAll(input, () => 1 + random.below(7)),
        whole,
      );
      const written: Uint8Array[] = [];
      const writer = new DialFrameWriter((bytes) => {
        written.push(Uint8Array.from(bytes));
        return true;
      });
      const picked = Array.from({ length: 1 + random.below(5) }, () => random.pick(frames));
      for (const frame of picked) {
        writer.put(frame);
      }
      writer.flush();
      assert.deepEqual(
        readAll(Buffer.concat(written), () => 1 + random.below(40)),
        picked.map((frame) => Buffer.from(serializeDialFrame(frame)).toString('hex')),
      );
    },
    settle: () => undefined,
    close: () => undefined,
  };
}
