import { concatBytes } from '../../base/index.ts';
import { type ConnId, parseConnId, serializeConnId } from './conn-id.ts';

/** One gRPC call per connection: the version that every release since 2.6 speaks. */
export const streamVersion = 2;

/** The first message of a tunnel, from the side that opened it. */
export interface StreamInfo {
  readonly roundtripLatencyMs: number;
  readonly dialTimeoutMs: number;
  readonly id: ConnId;
  readonly sessionId: string;
}

/** A session id is a UUID or `agent:` and a UUID; the limit leaves room for other spellings. */
const maxSessionIdBytes = 512;

export function serializeStreamInfo(info: StreamInfo): Uint8Array {
  const id = serializeConnId(info.id);
  const session = new TextEncoder().encode(info.sessionId);
  return concatBytes([
    uvarint(streamVersion),
    uvarint(info.roundtripLatencyMs * 1e6),
    uvarint(info.dialTimeoutMs * 1e6),
    uvarint(id.length),
    id,
    uvarint(session.length),
    session,
  ]);
}

/** Undefined when malformed; the server then ends the call with `failed_precondition`. */
export function parseStreamInfo(body: Uint8Array): StreamInfo | undefined {
  const reader = new Reader(body);
  const version = reader.uvarint();
  const latencyNs = reader.uvarint();
  const timeoutNs = reader.uvarint();
  const idBytes = reader.bytes(reader.uvarint(), 37);
  const sessionBytes = reader.bytes(reader.uvarint(), maxSessionIdBytes);
  const id = idBytes && parseConnId(idBytes);
  if (version === undefined || latencyNs === undefined || timeoutNs === undefined || !id || !sessionBytes) {
    return undefined;
  }
  return {
    roundtripLatencyMs: latencyNs / 1e6,
    dialTimeoutMs: timeoutNs / 1e6,
    id,
    sessionId: new TextDecoder().decode(sessionBytes),
  };
}

export function serializeStreamOk(): Uint8Array {
  return uvarint(streamVersion);
}

/** Groups of seven bits, least significant first; exact below 2^53. */
function uvarint(value: number): Uint8Array {
  const out: number[] = [];
  let left = Math.max(0, Math.floor(value));
  while (left >= 0x80) {
    out.push((left % 0x80) | 0x80);
    left = Math.floor(left / 0x80);
  }
  out.push(left);
  return Uint8Array.from(out);
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  uvarint(): number | undefined {
    let value = 0;
    for (let group = 0; group < 8; group++) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) {
        return undefined;
      }
      value += (byte & 0x7f) * 0x80 ** group;
      if (byte < 0x80) {
        return value;
      }
    }
    return undefined;
  }

  bytes(length: number | undefined, limit: number): Uint8Array | undefined {
    if (length === undefined || length > limit || this.#at + length > this.#bytes.length) {
      return undefined;
    }
    const out = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return out;
  }
}
