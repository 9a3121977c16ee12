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
  const session = sessionBytes(info.sessionId);
  const out = new Uint8Array(maxFixedBytes + id.length + session.length);
  let at = putUvarint(out, 0, streamVersion);
  at = putUvarint(out, at, info.roundtripLatencyMs * 1e6);
  at = putUvarint(out, at, info.dialTimeoutMs * 1e6);
  at = putUvarint(out, at, id.length);
  out.set(id, at);
  at = putUvarint(out, at + id.length, session.length);
  out.set(session, at);
  return out.subarray(0, at + session.length);
}

/** Five numbers of at most eight bytes. */
const maxFixedBytes = 5 * 8;

/** Thousands of connections in a row are of one session. */
let lastSession = { id: '', bytes: new Uint8Array(0) };

function sessionBytes(id: string): Uint8Array {
  if (lastSession.id !== id) {
    lastSession = { id, bytes: new TextEncoder().encode(id) };
  }
  return lastSession.bytes;
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
  return Uint8Array.of(streamVersion);
}

/** Groups of seven bits, least significant first; exact below 2^53. Answers where the next one goes. */
function putUvarint(out: Uint8Array, start: number, value: number): number {
  let at = start;
  let left = Math.max(0, Math.floor(value));
  while (left >= 0x80) {
    out[at++] = (left % 0x80) | 0x80;
    left = Math.floor(left / 0x80);
  }
  out[at++] = left;
  return at;
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
