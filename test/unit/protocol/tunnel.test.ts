import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseIp } from '../../../src/base/index.ts';
import {
  parseConnId,
  parseStreamInfo,
  serializeConnId,
  serializeStreamInfo,
  TunnelDecoder,
  tunnelCode,
  tunnelHeader,
} from '../../../src/protocol/index.ts';

const ip = (text: string): Uint8Array => {
  const parsed = parseIp(text);
  assert.ok(parsed);
  return parsed;
};

const id = {
  protocol: 'tcp',
  source: ip('10.100.0.0'),
  sourcePort: 40_000,
  destination: ip('10.100.225.66'),
  destinationPort: 8080,
} as const;

test('a connection between IPv4 addresses is named by the 13 bytes of the wire', () => {
  const bytes = serializeConnId(id);
  assert.equal(Buffer.from(bytes).toString('hex'), '0a640000' + '9c40' + '0a64e142' + '1f90' + '06');
  assert.deepEqual(parseConnId(bytes), id);
});

test('mixed families take the long form and come back unmapped', () => {
  const mixed = { ...id, destination: ip('fd00::7') };
  const bytes = serializeConnId(mixed);
  assert.equal(bytes.length, 37);
  assert.deepEqual(parseConnId(bytes), mixed);
});

test('a connection id of another length or protocol is malformed', () => {
  assert.equal(parseConnId(new Uint8Array(12)), undefined);
  assert.equal(parseConnId(new Uint8Array(13)), undefined);
});

test('stream info survives the round trip', () => {
  const info = { roundtripLatencyMs: 2_000, dialTimeoutMs: 5_000, id, sessionId: 'a-session' };
  assert.deepEqual(parseStreamInfo(serializeStreamInfo(info)), info);
});

test('truncated stream info is malformed at every length', () => {
  const bytes = serializeStreamInfo({ roundtripLatencyMs: 1, dialTimeoutMs: 1, id, sessionId: 's' });
  for (let length = 0; length < bytes.length; length++) {
    assert.equal(parseStreamInfo(bytes.subarray(0, length)), undefined, `at ${length} bytes`);
  }
});

function decode(bytes: Uint8Array, step: number): { events: string[]; failure: string | undefined } {
  const events: string[] = [];
  const decoder = new TunnelDecoder({
    data: (slice, last) => events.push(`data ${Buffer.from(slice).toString()}${last ? ' .' : ''}`),
    control: (code, body) => events.push(`control ${code} ${Buffer.from(body).toString()}`),
  });
  for (let at = 0; at < bytes.length; at += step) {
    const failure = decoder.push(bytes.subarray(at, at + step));
    if (failure) {
      return { events, failure };
    }
  }
  return { events, failure: undefined };
}

const message = (code: number, text: string): Buffer =>
  Buffer.concat([tunnelHeader(code, text.length), Buffer.from(text)]);

test('messages are decoded whole when they arrive whole', () => {
  const bytes = Buffer.concat([
    message(tunnelCode.dialOk, ''),
    message(tunnelCode.normal, 'hello'),
    message(tunnelCode.session, 'abc'),
  ]);
  assert.deepEqual(decode(bytes, 1000), {
    events: ['control 4 ', 'data hello .', 'control 8 abc'],
    failure: undefined,
  });
});

test('messages are decoded alike when they arrive byte by byte', () => {
  const { events, failure } = decode(
    Buffer.concat([message(0, 'hey'), message(tunnelCode.session, 'ab'), message(0, '')]),
    1,
  );
  assert.equal(failure, undefined);
  assert.deepEqual(events, ['data h', 'data e', 'data y .', 'control 8 ab', 'data  .']);
});

test('headers of every length of varint are read back', () => {
  for (const length of [0, 126, 127, 128, 16_382, 16_383, 70_000]) {
    const { events, failure } = decode(message(0, 'x'.repeat(length)), 1 << 20);
    assert.equal(failure, undefined);
    assert.equal(events[0]?.length, 'data '.length + length + ' .'.length);
  }
});

test('a compressed, foreign or oversized message is malformed', () => {
  assert.match(decode(Buffer.from([1, 0, 0, 0, 1]), 10).failure ?? '', /compressed/);
  assert.match(decode(Buffer.from([0, 0, 0, 0, 2, 0x12, 0]), 10).failure ?? '', /unexpected field/);
  assert.match(decode(Buffer.from([0, 0xff, 0, 0, 0]), 10).failure ?? '', /too long/);
  assert.match(decode(Buffer.from([0, 0, 0, 0, 3, 0x0a, 9, 0]), 10).failure ?? '', /longer than its message/);
});
