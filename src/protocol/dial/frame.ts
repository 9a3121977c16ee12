import { concatBytes, type IpBytes, malformed, needMore, type Read, readValue } from '../../base/index.ts';

/**
 * The dial channel: what the daemon asks the connector per flow and per name. Binary, because it is on the path
 * of every new connection and of every datagram. Layout, big endian: u8 type, u32 body length, body.
 */
export type DialResult = 'ok' | 'refused' | 'unreachable' | 'timeout' | 'prohibited';

/** daemon → connector: may this flow be opened? `peerPort` is the source port that the listener will see. */
export interface DialQuestion {
  readonly type: 'dial';
  readonly id: number;
  readonly protocol: 'tcp' | 'udp';
  readonly source: IpBytes;
  readonly sourcePort: number;
  readonly destination: IpBytes;
  readonly destinationPort: number;
  readonly peerPort: number;
}

export type DialFrame =
  | { readonly type: 'hello'; readonly token: string }
  | DialQuestion
  | { readonly type: 'answer'; readonly id: number; readonly result: DialResult }
  | { readonly type: 'datagram'; readonly id: number; readonly payload: Uint8Array }
  | { readonly type: 'close'; readonly id: number }
  | { readonly type: 'lookup'; readonly id: number; readonly qtype: number; readonly name: string }
  | { readonly type: 'lookup-answer'; readonly id: number; readonly rcode: number; readonly records: Uint8Array };

/** A datagram of 65,535 bytes and its id fit; nothing legitimate is longer. */
export const maxDialBodyBytes = 70_000;
const headerBytes = 5;

const types = ['hello', 'dial', 'answer', 'datagram', 'close', 'lookup', 'lookup-answer'] as const;
const results: readonly DialResult[] = ['ok', 'refused', 'unreachable', 'timeout', 'prohibited'];
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function serializeDialFrame(frame: DialFrame): Uint8Array {
  const out = new Uint8Array(dialFrameBytes(frame));
  putDialFrame(frame, out, 0);
  return out;
}

/** How long a frame becomes. */
export function dialFrameBytes(frame: DialFrame): number {
  return headerBytes + bodyBytes(frame);
}

function bodyBytes(frame: DialFrame): number {
  switch (frame.type) {
    case 'hello':
      return frame.token.length;
    case 'dial':
      return 12 + 2 * frame.destination.length;
    case 'answer':
      return 5;
    case 'datagram':
      return 4 + frame.payload.length;
    case 'close':
      return 4;
    case 'lookup':
      return 6 + encoder.encode(frame.name).length;
    case 'lookup-answer':
      return 6 + frame.records.length;
  }
}

/** Writes a frame at a place that has room for it. */
export function putDialFrame(frame: DialFrame, out: Uint8Array, at: number): void {
  const body = at + headerBytes;
  out[at] = types.indexOf(frame.type);
  put32(out, at + 1, bodyBytes(frame));
  if (frame.type === 'hello') {
    encoder.encodeInto(frame.token, out.subarray(body));
    return;
  }
  put32(out, body, frame.id);
  switch (frame.type) {
    case 'dial':
      putQuestion(frame, out, body + 4);
      break;
    case 'answer':
      out[body + 4] = results.indexOf(frame.result);
      break;
    case 'datagram':
      out.set(frame.payload, body + 4);
      break;
    case 'lookup':
      put16(out, body + 4, frame.qtype);
      encoder.encodeInto(frame.name, out.subarray(body + 6));
      break;
    case 'lookup-answer':
      put16(out, body + 4, frame.rcode);
      out.set(frame.records, body + 6);
      break;
    case 'close':
      break;
  }
}

/** Protocol u8 (6 or 17), address length u8 (4 or 16), then source, destination, and the three ports. */
function putQuestion(frame: DialQuestion, out: Uint8Array, at: number): void {
  const size = frame.destination.length;
  out[at] = frame.protocol === 'tcp' ? 6 : 17;
  out[at + 1] = size;
  out.set(frame.source, at + 2);
  out.set(frame.destination, at + 2 + size);
  const ports = at + 2 + 2 * size;
  put16(out, ports, frame.sourcePort);
  put16(out, ports + 2, frame.destinationPort);
  put16(out, ports + 4, frame.peerPort);
}

function put16(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 8;
  out[at + 1] = value & 0xff;
}

function put32(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 24;
  out[at + 1] = (value >>> 16) & 0xff;
  out[at + 2] = (value >>> 8) & 0xff;
  out[at + 3] = value & 0xff;
}

function get16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

function get32(bytes: Uint8Array, at: number): number {
  return ((get16(bytes, at) << 16) | get16(bytes, at + 2)) >>> 0;
}

const nothing = new Uint8Array(0);

/**
 * Reads frames from a byte stream. Views in a frame are of the chunk that was pushed: whoever keeps one beyond the next
 * `push` copies it.
 */
export class DialFrameReader {
  #bytes: Uint8Array = nothing;
  #at = 0;

  push(chunk: Uint8Array): void {
    const rest = this.#bytes.length - this.#at;
    // What is left is less than one frame.
    this.#bytes = rest === 0 ? chunk : concatBytes([this.#bytes.subarray(this.#at), chunk]);
    this.#at = 0;
  }

  read(): Read<DialFrame> {
    const bytes = this.#bytes;
    const at = this.#at;
    if (bytes.length - at < headerBytes) {
      return needMore;
    }
    const length = get32(bytes, at + 1);
    const type = types[bytes[at] ?? 255];
    if (!type) {
      return malformed('unknown frame type');
    }
    if (length > maxDialBodyBytes) {
      return malformed('frame too long');
    }
    const body = at + headerBytes;
    if (bytes.length < body + length) {
      return needMore;
    }
    this.#at = body + length;
    const frame = parseBody(type, bytes, body, body + length);
    return frame ? readValue(frame, headerBytes + length) : malformed(`bad ${type} frame`);
  }
}

function parseBody(type: (typeof types)[number], bytes: Uint8Array, at: number, end: number): DialFrame | undefined {
  if (type === 'hello') {
    return { type, token: decoder.decode(bytes.subarray(at, end)) };
  }
  const length = end - at;
  if (length < 4) {
    return undefined;
  }
  const id = get32(bytes, at);
  switch (type) {
    case 'dial':
      return parseQuestion(id, bytes, at, end);
    case 'answer': {
      const result = length === 5 ? results[bytes[at + 4] ?? 255] : undefined;
      return result && { type, id, result };
    }
    case 'datagram':
      return { type, id, payload: bytes.subarray(at + 4, end) };
    case 'close':
      return length === 4 ? { type, id } : undefined;
    case 'lookup':
      return length < 7
        ? undefined
        : { type, id, qtype: get16(bytes, at + 4), name: decoder.decode(bytes.subarray(at + 6, end)) };
    case 'lookup-answer':
      return length < 6 ? undefined : { type, id, rcode: get16(bytes, at + 4), records: bytes.subarray(at + 6, end) };
  }
}

function parseQuestion(id: number, bytes: Uint8Array, at: number, end: number): DialQuestion | undefined {
  const protocol = bytes[at + 4] === 6 ? 'tcp' : bytes[at + 4] === 17 ? 'udp' : undefined;
  const size = bytes[at + 5];
  if (!protocol || (size !== 4 && size !== 16) || end - at !== 6 + 2 * size + 6) {
    return undefined;
  }
  const ports = at + 6 + 2 * size;
  return {
    type: 'dial',
    id,
    protocol,
    // Copies: addresses become keys of tables that outlive the frame.
    source: bytes.slice(at + 6, at + 6 + size),
    sourcePort: get16(bytes, ports),
    destination: bytes.slice(at + 6 + size, ports),
    destinationPort: get16(bytes, ports + 2),
    peerPort: get16(bytes, ports + 4),
  };
}
