import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  parseDatagram,
  parseGreeting,
  parsePassword,
  parseRequest,
  serializeDatagram,
  serializeReply,
  socksReply,
} from '../../../../src/connector/proxy/socks.ts';
import { ip } from './bench.ts';

const bytes = (...parts: readonly (number | string | Uint8Array)[]): Buffer =>
  Buffer.concat(parts.map((each) => (typeof each === 'number' ? Buffer.of(each) : Buffer.from(each))));

const connectTo = (...address: readonly (number | string)[]): Buffer => bytes(5, 1, 0, ...address, 0x1f, 0x90);

const whole: readonly [string, (bytes: Uint8Array) => { kind: string; bytesRead?: number }, Buffer][] = [
  ['a greeting', parseGreeting, bytes(5, 2, 0, 2)],
  ['a password', parsePassword, bytes(1, 4, 'user', 6, 'secret')],
  ['a request with a name', parseRequest, connectTo(3, 9, 'service-a')],
  ['a request with an IPv4 address', parseRequest, connectTo(1, 10, 0, 0, 1)],
  ['a request with an IPv6 address', parseRequest, connectTo(4, '0123456789abcdef')],
];

for (const [what, parse, message] of whole) {
  test(`${what} is read once it is whole, and not a byte further`, () => {
    for (let length = 0; length < message.length; length++) {
      assert.equal(parse(message.subarray(0, length)).kind, 'need-more', `after ${length} bytes`);
    }
    const read = parse(bytes(message, 'rest'));
    assert.equal(read.kind, 'value');
    assert.equal(read.bytesRead, message.length);
  });
}

test('what is asked for is understood', () => {
  const read = (request: Buffer): unknown => {
    const found = parseRequest(request);
    return found.kind === 'value' ? found.value : found.kind;
  };
  assert.deepEqual(read(connectTo(3, 9, 'service-a')), {
    command: 'connect',
    target: { host: 'service-a', port: 8_080 },
  });
  assert.deepEqual(read(connectTo(4, 0xfd, '\0\0\0\0\0\0\0\0\0\0\0\0\0\0', 1)), {
    command: 'connect',
    target: { host: 'fd00::1', port: 8_080 },
  });
  assert.deepEqual(read(bytes(5, 3, 0, 4, new Uint8Array(15), 1, 0, 53)), {
    command: 'associate',
    target: { host: '::1', port: 53 },
  });
  assert.deepEqual(read(bytes(5, 2, 0, 1, 10, 0, 0, 1, 0, 80)), {
    command: 'bind',
    target: { host: '10.0.0.1', port: 80 },
  });
  assert.deepEqual(read(bytes(5, 9, 0, 1, 10, 0, 0, 1, 0, 80)), {
    command: 'unsupported',
    reply: socksReply.commandNotSupported,
  });
  assert.deepEqual(read(bytes(5, 1, 0, 2, 10, 0)), {
    command: 'unsupported',
    reply: socksReply.addressNotSupported,
  });
});

for (const [what, parse, message] of [
  ['SOCKS 4', parseGreeting, bytes(4, 1, 0, 80, 10, 0, 0, 1, 0)],
  ['HTTP', parseGreeting, bytes('GET / HTTP/1.1\r\n\r\n')],
  ['a greeting without methods', parseGreeting, bytes(5, 0)],
  ['another version of the password method', parsePassword, bytes(2, 1, 'a', 1, 'b')],
  ['a request of another version', parseRequest, bytes(4, 1, 0, 1, 10, 0, 0, 1, 0, 80)],
  ['a name with a line break', parseRequest, connectTo(3, 4, 'a\r\nb')],
  ['a name with a zero byte', parseRequest, connectTo(3, 3, 'a\0b')],
  ['an empty name', parseRequest, connectTo(3, 0)],
] as const) {
  test(`${what} is malformed`, () => assert.equal(parse(message).kind, 'malformed'));
}

test('a reply says where the relay is', () => {
  assert.deepEqual(Buffer.from(serializeReply(socksReply.refused, undefined)), bytes(5, 5, 0, 1, 0, 0, 0, 0, 0, 0));
  const bound = { address: ip('127.0.0.1'), port: 0x1234 };
  assert.deepEqual(
    Buffer.from(serializeReply(socksReply.succeeded, bound)),
    bytes(5, 0, 0, 1, 127, 0, 0, 1, 0x12, 0x34),
  );
});

test('a datagram’s header is read, and written for the way back', () => {
  const read = parseDatagram(bytes(0, 0, 0, 3, 1, 'a', 0, 53, 'payload'));
  assert.deepEqual(read?.target, { host: 'a', port: 53 });
  assert.equal(Buffer.from(read?.payload ?? []).toString(), 'payload');
  const back = parseDatagram(serializeDatagram(ip('fd00::1'), 53, Buffer.from('x')));
  assert.deepEqual(back?.target, { host: 'fd00::1', port: 53 });
  assert.equal(parseDatagram(bytes(0, 0, 0, 1, 10, 0, 0, 1, 0, 53))?.payload.length, 0);
});

for (const [what, datagram] of [
  ['a fragment', bytes(0, 0, 1, 1, 10, 0, 0, 1, 0, 53, 'x')],
  ['reserved bytes in use', bytes(0, 1, 0, 1, 10, 0, 0, 1, 0, 53, 'x')],
  ['a header that is cut off', bytes(0, 0, 0, 1, 10, 0, 0)],
  ['an unknown address type', bytes(0, 0, 0, 7, 10, 0, 0, 1, 0, 53)],
  ['a name longer than the datagram', bytes(0, 0, 0, 3, 200, 'short', 0, 53)],
  ['port 0', bytes(0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 'x')],
  ['nothing', bytes()],
] as const) {
  test(`a datagram with ${what} is dropped`, () => assert.equal(parseDatagram(datagram), undefined));
}
