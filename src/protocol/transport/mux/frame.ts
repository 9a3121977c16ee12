import { concatBytes, viewOf } from '../../../base/index.ts';
import { tunnelCode } from '../../tunnel/index.ts';

/**
 * Frames of a multiplexed connection, which is ours alone: u32 length of the body, u8 code, u32 connection, body. All numbers
 * are big-endian. Codes up to 8 are a tunnel's own, and mean the same. Whoever asked for the connection (`opening.ts`)
 * gives odd numbers to those it opens, and the other end even ones.
 */
export const muxCode = {
  ...tunnelCode,
  /** Nothing more is said, and nothing more is heard: the connection is over in order. Body: how a dial went, or nothing. */
  finish: 16,
  /** The connection is given up, which nobody at its far end meant. */
  drop: 17,
  /** Body: u32, so many more bytes may be sent. */
  credit: 18,
  /** Of the whole (connection 0): no new connections, please; it ends with the last one. */
  leave: 19,
  /** Of the whole: a sign of life is asked for, and given. */
  ping: 20,
  pong: 21,
} as const;

export const muxFrameBytes = 9;
/** What we send in one frame. */
export const maxPieceBytes = 256 * 1024;
/** Below, one piece of a copy is cheaper than two. */
export const smallBodyBytes = 1024;
/** A piece of ours, and room for whoever cuts larger ones. */
const maxBodyBytes = 1024 * 1024;
/** Control bodies are a stream info, a number, or nothing. */
const maxControlBytes = 1024;

/** What stands in front of a body, with `room` bytes behind it. */
export function muxHeader(code: number, connection: number, bodyLength: number, room = 0): Buffer {
  const out = Buffer.allocUnsafe(muxFrameBytes + room);
  out.writeUInt32BE(bodyLength, 0);
  out[4] = code;
  out.writeUInt32BE(connection, 5);
  return out;
}

/** A whole frame in one piece. */
export function muxFrame(code: number, connection: number, body: Uint8Array): Buffer {
  const out = muxHeader(code, connection, body.length, body.length);
  out.set(body, muxFrameBytes);
  return out;
}

export interface MuxDecoderHandlers {
  /** A piece of a `normal` frame; `last` says that the frame ends with it. */
  data(connection: number, slice: Uint8Array, last: boolean): void;
  /** A whole frame of any other code. */
  control(code: number, connection: number, body: Uint8Array): void;
}

/** Push chunks; `push` answers why the stream is malformed, or undefined. After a failure, push no more. */
export class MuxDecoder {
  readonly #handlers: MuxDecoderHandlers;
  readonly #head = new Uint8Array(muxFrameBytes);
  #headLength = 0;
  #code = 0;
  #connection = 0;
  #bodyLeft = 0;
  #control: Uint8Array[] = [];

  constructor(handlers: MuxDecoderHandlers) {
    this.#handlers = handlers;
  }

  push(chunk: Uint8Array): string | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.#bodyLeft > 0) {
        at = this.#body(chunk, at);
        continue;
      }
      const count = Math.min(muxFrameBytes - this.#headLength, chunk.length - at);
      this.#head.set(chunk.subarray(at, at + count), this.#headLength);
      at += count;
      this.#headLength += count;
      const failure = this.#headLength === muxFrameBytes ? this.#begin() : undefined;
      if (failure) {
        return failure;
      }
    }
    return undefined;
  }

  #begin(): string | undefined {
    const view = viewOf(this.#head);
    const length = view.getUint32(0);
    this.#headLength = 0;
    this.#code = view.getUint8(4);
    this.#connection = view.getUint32(5);
    if (length > (this.#code === muxCode.normal ? maxBodyBytes : maxControlBytes)) {
      return 'frame too long';
    }
    this.#bodyLeft = length;
    if (length === 0) {
      this.#end(new Uint8Array(0));
    }
    return undefined;
  }

  #body(chunk: Uint8Array, at: number): number {
    const count = Math.min(this.#bodyLeft, chunk.length - at);
    const slice = chunk.subarray(at, at + count);
    this.#bodyLeft -= count;
    if (this.#code === muxCode.normal) {
      this.#handlers.data(this.#connection, slice, this.#bodyLeft === 0);
    } else {
      this.#control.push(slice);
      if (this.#bodyLeft === 0) {
        this.#end(this.#control.length === 1 ? slice : concatBytes(this.#control));
      }
    }
    return at + count;
  }

  #end(body: Uint8Array): void {
    this.#control = [];
    if (this.#code === muxCode.normal) {
      // An empty one is an empty datagram.
      this.#handlers.data(this.#connection, body, true);
    } else {
      this.#handlers.control(this.#code, this.#connection, body);
    }
  }
}

/** Neighbours that are small become one piece. */
export function joinSmall(pieces: readonly Uint8Array[]): Uint8Array[] {
  const joined: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  const close = (): void => {
    if (small.length > 0) {
      joined.push(small.length === 1 ? (small[0] as Uint8Array) : Buffer.concat(small));
      small = [];
    }
  };
  for (const piece of pieces) {
    if (piece.length > 2 * smallBodyBytes) {
      close();
      joined.push(piece);
    } else {
      small.push(piece);
    }
  }
  close();
  return joined;
}
