import { concatBytes } from '../../base/index.ts';

/**
 * Framing of a tunnel stream: a gRPC message (u8 flag, u32 length) around a protobuf message with one bytes field
 * (tag 0x0a, varint length), whose first byte is a code. Decoded without reassembly: payload leaves as slices of
 * what arrived, because the border of a message means nothing to TCP.
 */
export const tunnelCode = {
  normal: 0,
  streamInfo: 1,
  streamOk: 2,
  closeSend: 3,
  dialOk: 4,
  dialReject: 5,
  disconnect: 6,
  keepAlive: 7,
  session: 8,
} as const;

/** Peers send at most 512 KiB in a message, old ones 1 MiB; more than twice that is not a peer. */
const maxMessageBytes = 2 * 1024 * 1024;
/** Control bodies are a conn id, a session id, or nothing. */
const maxControlBytes = 1024;

/** Everything in front of a body of this length: 8 to 11 bytes, so that the body itself is never copied. */
export function tunnelHeader(code: number, bodyLength: number): Uint8Array {
  return headerWithRoom(code, bodyLength, 0);
}

/** A whole message in one piece: for small ones one write of a copy is cheaper than two. */
export function tunnelMessage(code: number, body: Uint8Array): Uint8Array {
  const out = headerWithRoom(code, body.length, body.length);
  out.set(body, out.length - body.length);
  return out;
}

function headerWithRoom(code: number, bodyLength: number, room: number): Uint8Array {
  const payload = bodyLength + 1;
  const varintLength = payload < 0x80 ? 1 : payload < 0x4000 ? 2 : payload < 0x200000 ? 3 : 4;
  const out = new Uint8Array(5 + 1 + varintLength + 1 + room);
  const message = 1 + varintLength + payload;
  out[1] = message >>> 24;
  out[2] = message >>> 16;
  out[3] = message >>> 8;
  out[4] = message;
  out[5] = 0x0a;
  let at = 6;
  for (let left = payload; ; left >>>= 7) {
    out[at++] = left < 0x80 ? left : (left & 0x7f) | 0x80;
    if (left < 0x80) {
      break;
    }
  }
  out[at] = code;
  return out;
}

export interface TunnelDecoderHandlers {
  /** A piece of a Normal message; `last` says that the message ends with it. */
  data(slice: Uint8Array, last: boolean): void;
  /** A whole message of any other code. */
  control(code: number, body: Uint8Array): void;
}

type State = 'prefix' | 'tag' | 'length' | 'code' | 'body' | 'skip';

/** Push chunks; `push` answers why the stream is malformed, or undefined. After a failure, push no more. */
export class TunnelDecoder {
  readonly #handlers: TunnelDecoderHandlers;
  #state: State = 'prefix';
  #prefixBytes = 0;
  #messageLeft = 0;
  #accumulator = 0;
  #shift = 0;
  #payloadLeft = 0;
  #code = 0;
  #control: Uint8Array[] = [];

  constructor(handlers: TunnelDecoderHandlers) {
    this.#handlers = handlers;
  }

  push(chunk: Uint8Array): string | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === 'body' || this.#state === 'skip') {
        at = this.#body(chunk, at);
        continue;
      }
      const failure = this.#byte(chunk[at++] ?? 0);
      if (failure) {
        return failure;
      }
    }
    return undefined;
  }

  #byte(byte: number): string | undefined {
    switch (this.#state) {
      case 'prefix':
        return this.#prefix(byte);
      case 'tag':
        this.#messageLeft--;
        if (byte !== 0x0a) {
          return 'unexpected field in a tunnel message';
        }
        this.#accumulator = 0;
        this.#shift = 0;
        this.#state = 'length';
        return undefined;
      case 'length':
        return this.#length(byte);
      default:
        this.#code = byte;
        this.#messageLeft--;
        this.#payloadLeft--;
        this.#control = [];
        if (this.#payloadLeft > maxControlBytes && byte !== tunnelCode.normal) {
          return 'control message too long';
        }
        this.#state = 'body';
        if (this.#payloadLeft === 0) {
          this.#endOfPayload();
        }
        return undefined;
    }
  }

  #prefix(byte: number): string | undefined {
    if (this.#prefixBytes++ === 0) {
      this.#accumulator = 0;
      return byte === 0 ? undefined : 'compressed message';
    }
    this.#accumulator = this.#accumulator * 256 + byte;
    if (this.#prefixBytes < 5) {
      return undefined;
    }
    this.#prefixBytes = 0;
    this.#messageLeft = this.#accumulator;
    this.#state = this.#messageLeft === 0 ? 'prefix' : 'tag';
    return this.#messageLeft > maxMessageBytes ? 'tunnel message too long' : undefined;
  }

  #length(byte: number): string | undefined {
    this.#messageLeft--;
    this.#accumulator += (byte & 0x7f) * 2 ** this.#shift;
    this.#shift += 7;
    if (byte >= 0x80) {
      return this.#shift > 28 ? 'bad length in a tunnel message' : undefined;
    }
    this.#payloadLeft = this.#accumulator;
    if (this.#payloadLeft > this.#messageLeft) {
      return 'payload longer than its message';
    }
    this.#state = this.#payloadLeft > 0 ? 'code' : this.#messageLeft > 0 ? 'skip' : 'prefix';
    return undefined;
  }

  #body(chunk: Uint8Array, at: number): number {
    if (this.#state === 'skip') {
      const count = Math.min(this.#messageLeft, chunk.length - at);
      this.#messageLeft -= count;
      if (this.#messageLeft === 0) {
        this.#state = 'prefix';
      }
      return at + count;
    }
    const count = Math.min(this.#payloadLeft, chunk.length - at);
    this.#payloadLeft -= count;
    this.#messageLeft -= count;
    const slice = at === 0 && count === chunk.length ? chunk : chunk.subarray(at, at + count);
    if (this.#code === tunnelCode.normal) {
      const last = this.#payloadLeft === 0;
      if (last) {
        this.#next();
      }
      this.#handlers.data(slice, last);
    } else {
      this.#control.push(slice);
      if (this.#payloadLeft === 0) {
        this.#endOfPayload();
      }
    }
    return at + count;
  }

  #endOfPayload(): void {
    const { length } = this.#control;
    const body = length === 1 ? (this.#control[0] ?? new Uint8Array(0)) : concatBytes(this.#control);
    this.#next();
    if (this.#code === tunnelCode.normal) {
      // An empty Normal message is an empty datagram.
      this.#handlers.data(body, true);
    } else {
      this.#handlers.control(this.#code, body);
    }
  }

  #next(): void {
    this.#control = [];
    this.#state = this.#messageLeft > 0 ? 'skip' : 'prefix';
  }
}
