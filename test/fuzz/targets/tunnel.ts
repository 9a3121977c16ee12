import assert from 'node:assert/strict';
import { TunnelDecoder, tunnelCode, tunnelHeader } from '../../../src/protocol/index.ts';
import type { Target } from '../target.ts';

const framed = (code: number, body: Uint8Array): Uint8Array => Buffer.concat([tunnelHeader(code, body.length), body]);

function decode(
  input: Uint8Array,
  size: () => number,
): { payload: string; controls: string[]; why: string | undefined } {
  const payload: Uint8Array[] = [];
  const controls: string[] = [];
  const decoder = new TunnelDecoder({
    data: (slice) => void payload.push(Uint8Array.from(slice)),
    control: (code, body) => void controls.push(`${code} ${Buffer.from(body).toString('hex')}`),
  });
  let why: string | undefined;
  for (let at = 0; at < input.length && why === undefined; ) {
    const end = Math.min(input.length, at + size());
    why = decoder.push(input.slice(at, end));
    at = end;
  }
  return { payload: Buffer.concat(payload).toString('hex'), controls, why };
}

/** Tunnel messages: however the stream is cut, the same payload and messages, or the same refusal. */
export function openTunnelTarget(): Target {
  return {
    seeds: [
      framed(tunnelCode.normal, new Uint8Array(300).fill(9)),
      framed(tunnelCode.streamInfo, new Uint8Array(30)),
      Buffer.concat([framed(tunnelCode.dialOk, new Uint8Array(0)), framed(tunnelCode.normal, new Uint8Array(5))]),
      framed(tunnelCode.closeSend, new Uint8Array(0)),
    ],
    run(input, random) {
      const whole = decode(input, () => input.length);
      const cut = decode(input, () => 1 + random.below(9));
      assert.deepEqual(cut.controls, whole.controls);
      assert.equal(cut.why, whole.why);
      if (whole.why === undefined) {
        assert.equal(cut.payload, whole.payload);
      }
    },
    settle: () => undefined,
    close: () => undefined,
  };
}
