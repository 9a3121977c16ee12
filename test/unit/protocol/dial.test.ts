import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DialFrame, DialFrameReader, serializeDialFrame } from '../../../src/protocol/index.ts';

const frames: DialFrame[] = [
  { type: 'hello', token: 'ab'.repeat(32) },
  {
    type: 'dial',
    id: 7,
    protocol: 'tcp',
    source: Uint8Array.of(10, 100, 0, 0),
    sourcePort: 40_000,
    destination: Uint8Array.of(10, 100, 225, 66),
    destinationPort: 8080,
    peerPort: 40_001,
  },
  { type: 'answer', id: 7, result: 'unreachable' },
  { type: 'datagram', id: 0xffffffff, payload: Uint8Array.of(1, 2, 3) },
  { type: 'close', id: 9 },
  { type: 'lookup', id: 1, qtype: 28, name: 'service-a.service-a-ns.' },
  { type: 'lookup-answer', id: 1, rcode: 3, records: new Uint8Array(0) },
];

const plain = (frame: unknown): unknown =>
  JSON.parse(JSON.stringify(frame, (_, value) => (value instanceof Uint8Array ? [...value] : value)));

for (const frame of frames) {
  test(`a ${frame.type} frame survives the round trip byte by byte`, () => {
    const reader = new DialFrameReader();
    const bytes = serializeDialFrame(frame);
    for (const byte of bytes.subarray(0, -1)) {
      reader.push(Uint8Array.of(byte));
      assert.equal(reader.read().kind, 'need-more');
    }
    reader.push(bytes.subarray(-1));
    const read = reader.read();
    assert.equal(read.kind, 'value');
    assert.deepEqual(plain(read.kind === 'value' && read.value), plain(frame));
  });
}

test('frames are malformed when unknown, too long or cut', () => {
  const readAll = (bytes: number[]): string => {
    const reader = new DialFrameReader();
    reader.push(Uint8Array.from(bytes));
    return reader.read().kind;
  };
  assert.equal(readAll([99, 0, 0, 0, 0]), 'malformed');
  assert.equal(readAll([3, 0xff, 0, 0, 0]), 'malformed');
  assert.equal(readAll([4, 0, 0, 0, 1, 7]), 'malformed');
  assert.equal(readAll([1, 0, 0, 0, 6, 0, 0, 0, 1, 6, 5]), 'malformed');
});
