import assert from 'node:assert/strict';
import { parseIp } from '../../../src/base/index.ts';
import {
  parseDatagram,
  parseGreeting,
  parsePassword,
  parseRequest,
  serializeDatagram,
} from '../../../src/connector/proxy/socks.ts';
import type { Target } from '../target.ts';

const bytes = (...parts: readonly (number | string | Uint8Array)[]): Uint8Array =>
  Buffer.concat(parts.map((each) => (typeof each === 'number' ? Buffer.of(each) : Buffer.from(each))));

const parsers = [parseGreeting, parsePassword, parseRequest] as const;

/** What is read is whole, does not change when more comes, and names a target that is safe to log and to resolve. */
export function openSocksTarget(): Target {
  return {
    seeds: [
      bytes(5, 2, 0, 2),
      bytes(1, 4, 'user', 6, 'secret'),
      bytes(5, 1, 0, 3, 9, 'service-a', 0x1f, 0x90),
      bytes(5, 3, 0, 1, 0, 0, 0, 0, 0, 0),
      bytes(5, 1, 0, 4, new Uint8Array(16), 0, 80),
      bytes(0, 0, 0, 1, 10, 0, 0, 1, 0, 53, 'payload'),
      bytes(0, 0, 0, 3, 4, 'echo', 0, 53, 'payload'),
    ],
    run(input, random) {
      for (const parse of parsers) {
        const whole = parse(input);
        if (whole.kind === 'value') {
          assert.ok(whole.bytesRead > 0 && whole.bytesRead <= input.length);
          const { value } = whole;
          if ('target' in value) {
            checkTarget(value.target.host, value.target.port);
          }
          if (!('command' in value && value.command === 'unsupported')) {
            assert.deepEqual(parse(input.slice(0, whole.bytesRead)), whole);
          }
        }
        const part = parse(input.slice(0, random.below(input.length + 1)));
        if (part.kind === 'malformed') {
          assert.equal(whole.kind, 'malformed', 'more bytes do not mend what was wrong');
        }
      }
      const datagram = parseDatagram(input);
      if (datagram) {
        const { target, payload } = datagram;
        checkTarget(target.host, target.port);
        assert.ok(target.port > 0);
        const ip = input[3] === 3 ? undefined : parseIp(target.host);
        if (ip) {
          assert.deepEqual(Buffer.from(serializeDatagram(ip, target.port, payload)), Buffer.from(input));
        }
      }
    },
    settle: () => undefined,
    close: () => undefined,
  };
}

function checkTarget(host: string, port: number): void {
  assert.match(host, /^[\w:.-]{1,255}$/);
  assert.ok(Number.isInteger(port) && port >= 0 && port < 65_536);
}
