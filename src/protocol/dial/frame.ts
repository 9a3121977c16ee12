import {
  ChunkList,
  concatBytes,
  type IpBytes,
  malformed,
  needMore,
  type Read,
  readValue,
  viewOf,
} from '../../base/index.ts';

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
  const body = serializeBody(frame);
  const out = new Uint8Array(headerBytes + body.length);
  out[0] = types.indexOf(frame.type);
  viewOf(out).setUint32(1, body.length);
  out.set(body, headerBytes);
  return out;
}

function serializeBody(frame: DialFrame): Uint8Array {
  switch (frame.type) {
    case 'hello':
      return encoder.encode(frame.token);
    case 'dial':
      return serializeQuestion(frame);
    case 'answer':
      return withId(frame.id, Uint8Array.of(results.indexOf(frame.result)));
    case 'datagram':
      return withId(frame.id, frame.payload);
    case 'close':
      return withId(frame.id, new Uint8Array(0));
    case 'lookup':
      return withId(frame.id, Uint8Array.of(frame.qtype >>> 8, frame.qtype & 0xff), encoder.encode(frame.name));
    case 'lookup-answer':
      return withId(frame.id, Uint8Array.of(frame.rcode >>> 8, frame.rcode & 0xff), frame.records);
  }
}

function withId(id: number, ...parts: Uint8Array[]): Uint8Array {
  const head = new Uint8Array(4);
  viewOf(head).setUint32(0, id);
  return concatBytes([head, ...parts]);
}

/** id u32, protocol u8 (6 or 17), address length u8 (4 or 16), then source, destination, and the three ports. */
function serializeQuestion(frame: DialQuestion): Uint8Array {
  const ports = new Uint8Array(6);
  const view = viewOf(ports);
  view.setUint16(0, frame.sourcePort);
  view.setUint16(2, frame.destinationPort);
  view.setUint16(4, frame.peerPort);
  const kind = Uint8Array.of(frame.protocol === 'tcp' ? 6 : 17, frame.destination.length);
  return withId(frame.id, kind, frame.source, frame.destination, ports);
}

/** Reads frames from a byte stream. Views in a frame are valid until the next `push`. */
export class DialFrameReader {
  readonly #chunks = new ChunkList();

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
  }

  read(): Read<DialFrame> {
    const header = this.#chunks.peek(headerBytes);
    if (!header) {
      return needMore;
    }
    const bodyLength = viewOf(header).getUint32(1);
    const type = types[header[0] ?? 255];
    if (!type) {
      return malformed('unknown frame type');
    }
    if (bodyLength > maxDialBodyBytes) {
      return malformed('frame too long');
    }
    if (this.#chunks.length < headerBytes + bodyLength) {
      return needMore;
    }
    this.#chunks.skip(headerBytes);
    const frame = parseBody(type, this.#chunks.take(bodyLength) ?? new Uint8Array(0));
    return frame ? readValue(frame, headerBytes + bodyLength) : malformed(`bad ${type} frame`);
  }
}

function parseBody(type: (typeof types)[number], body: Uint8Array): DialFrame | undefined {
  if (type === 'hello') {
    return { type, token: decoder.decode(body) };
  }
  if (body.length < 4) {
    return undefined;
  }
  const view = viewOf(body);
  const id = view.getUint32(0);
  switch (type) {
    case 'dial':
      return parseQuestion(id, body);
    case 'answer': {
      const result = body.length === 5 ? results[body[4] ?? 255] : undefined;
      return result && { type, id, result };
    }
    case 'datagram':
      return { type, id, payload: body.subarray(4) };
    case 'close':
      return body.length === 4 ? { type, id } : undefined;
    case 'lookup':
      return body.length < 7
        ? undefined
        : { type, id, qtype: view.getUint16(4), name: decoder.decode(body.subarray(6)) };
    case 'lookup-answer':
      return body.length < 6 ? undefined : { type, id, rcode: view.getUint16(4), records: body.subarray(6) };
  }
}

function parseQuestion(id: number, body: Uint8Array): DialQuestion | undefined {
  const protocol = body[4] === 6 ? 'tcp' : body[4] === 17 ? 'udp' : undefined;
  const size = body[5];
  if (!protocol || (size !== 4 && size !== 16) || body.length !== 6 + 2 * size + 6) {
    return undefined;
  }
  const view = viewOf(body);
  const at = 6 + 2 * size;
  return {
    type: 'dial',
    id,
    protocol,
    // Copies: addresses become keys of tables that outlive the frame.
    source: body.slice(6, 6 + size),
    sourcePort: view.getUint16(at),
    destination: body.slice(6 + size, at),
    destinationPort: view.getUint16(at + 2),
    peerPort: view.getUint16(at + 4),
  };
}
