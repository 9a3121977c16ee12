import assert from 'node:assert/strict';
import { createBodyReader } from '../../../src/agent/http/body.ts';
import { maxHeadBytes, parseRequestHead, parseResponseHead } from '../../../src/agent/http/head.ts';
import { sniff } from '../../../src/agent/http/sniff.ts';
import type { Random } from '../random.ts';
import type { Target } from '../target.ts';

const request = (lines: readonly string[], body = ''): Uint8Array =>
  Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`);
const chunked = ['POST /a?b=c HTTP/1.1', 'Host: web', 'Transfer-Encoding: chunked'];

/** Heads and bodies are found alike however the bytes are cut, and what stands in them is safe to act on. */
export function openHttpHeadTarget(): Target {
  return {
    seeds: [
      request(['GET / HTTP/1.1', 'Host: web', 'X-User: ann']),
      request(chunked, '5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n'),
      request(['POST / HTTP/1.0', 'Content-Length: 5', 'Connection: keep-alive'], 'hello'),
      request(['GET /ws HTTP/1.1', 'Host: web', 'Upgrade: websocket', 'Connection: Upgrade']),
      request(['HTTP/1.1 200 OK', 'Content-Length: 2'], 'ok'),
      request(['HTTP/1.1 100 Continue']),
      request(['PRI * HTTP/2.0', '', 'SM']),
    ],
    run(input, random) {
      const bytes = Buffer.from(input);
      for (const parse of [parseRequestHead, (all: Buffer) => parseResponseHead(all, 'GET')]) {
        const whole = parse(bytes);
        const part = parse(bytes.subarray(0, random.below(bytes.length + 1)));
        if (part.kind === 'malformed') {
          assert.equal(whole.kind, 'malformed', 'more bytes do not mend what was wrong');
        }
        if (whole.kind === 'value') {
          const head = bytes.toString('latin1', 0, whole.bytesRead);
          assert.ok(whole.bytesRead <= maxHeadBytes && head.endsWith('\r\n\r\n'));
          assert.equal(head.indexOf('\r\n\r\n'), whole.bytesRead - 4, 'nothing of a next message is in it');
          assert.doesNotMatch(head.replaceAll('\r\n', ''), /[\r\n\0]/);
          assert.deepEqual(parse(bytes.subarray(0, whole.bytesRead)), whole);
          const { fields, body } = whole.value;
          assert.ok(!(fields.has('content-length') && fields.has('transfer-encoding') && body.kind !== 'none'));
        }
      }
      sniff(bytes);
      checkBody(bytes, random);
    },
    settle: () => undefined,
    close: () => undefined,
  };
}

/** A body that is read in one piece ends where it does when it is read in several. */
function checkBody(bytes: Buffer, random: Random): void {
  const start = Math.max(0, bytes.indexOf('\r\n\r\n') + 4);
  const body = bytes.subarray(start);
  const whole = createBodyReader({ kind: 'chunked' }).push(body);
  const pieces = createBodyReader({ kind: 'chunked' });
  let at = 0;
  let isEnd = false;
  while (at < body.length && !isEnd) {
    const step = pieces.push(body.subarray(at, at + 1 + random.below(8)));
    if (step.kind === 'malformed') {
      assert.equal(whole.kind, 'malformed');
      return;
    }
    at += step.bytes;
    isEnd = step.isEnd;
  }
  assert.ok(whole.kind === 'part');
  assert.deepEqual([at, isEnd], [whole.bytes, whole.isEnd]);
}
