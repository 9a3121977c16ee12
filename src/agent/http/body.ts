import type { BodyFraming } from './head.ts';

/** What of a piece of bytes belongs to a body. */
export type BodyStep =
  /** `bytes` of them do; `isEnd` when the body is complete with them. */
  | { readonly kind: 'part'; readonly bytes: number; readonly isEnd: boolean }
  | { readonly kind: 'malformed'; readonly why: string };

/** Finds the end of one body (RFC 9112 §6, §7.1) in bytes that are relayed as they are. */
export interface BodyReader {
  push(bytes: Uint8Array): BodyStep;
}

export function createBodyReader(framing: BodyFraming): BodyReader {
  switch (framing.kind) {
    case 'none':
      return { push: () => ({ kind: 'part', bytes: 0, isEnd: true }) };
    case 'rest':
      return { push: ({ length }) => ({ kind: 'part', bytes: length, isEnd: false }) };
    case 'length':
      return new LengthReader(framing.bytes);
    case 'chunked':
      return new ChunkedReader();
  }
}

class LengthReader implements BodyReader {
  #left: number;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  push({ length }: Uint8Array): BodyStep {
    const bytes = Math.min(length, this.#left);
    this.#left -= bytes;
    return { kind: 'part', bytes, isEnd: this.#left === 0 };
  }
}

/** Extensions of a chunk and trailers mean nothing here; without a limit they would be a body of their own. */
const maxLineBytes = 4_096;
const maxTrailerBytes = 64 * 1024;
const cr = 13;
const lf = 10;

class ChunkedReader implements BodyReader {
  #state: 'size' | 'data' | 'data-end' | 'trailer' = 'size';
  /** The line that is being read; a chunk's data never comes here. */
  #line = '';
  #left = 0;
  #trailerBytes = 0;

  push(bytes: Uint8Array): BodyStep {
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === 'data') {
        const count = Math.min(this.#left, bytes.length - at);
        this.#left -= count;
        at += count;
        this.#state = this.#left === 0 ? 'data-end' : 'data';
        continue;
      }
      const byte = bytes[at++] ?? 0;
      if (byte !== lf) {
        if (this.#line.endsWith('\r') || this.#line.length >= maxLineBytes || isControl(byte)) {
          return { kind: 'malformed', why: 'a line of a chunk is not one' };
        }
        this.#line += String.fromCharCode(byte);
        continue;
      }
      const line = this.#line;
      this.#line = '';
      const outcome = line.endsWith('\r') ? this.#endLine(line.slice(0, -1)) : 'malformed';
      if (outcome === 'malformed') {
        return { kind: 'malformed', why: 'a chunk is not one' };
      }
      if (outcome === 'end') {
        return { kind: 'part', bytes: at, isEnd: true };
      }
    }
    return { kind: 'part', bytes: at, isEnd: false };
  }

  #endLine(line: string): 'more' | 'end' | 'malformed' {
    switch (this.#state) {
      case 'size': {
        const [, size] = /^([\da-fA-F]{1,13})[\t ]*(?:;.*)?$/.exec(line) ?? [];
        if (size === undefined) {
          return 'malformed';
        }
        this.#left = Number.parseInt(size, 16);
        this.#state = this.#left === 0 ? 'trailer' : 'data';
        return 'more';
      }
      case 'data-end':
        this.#state = 'size';
        return line === '' ? 'more' : 'malformed';
      default:
        this.#trailerBytes += line.length + 2;
        if (line === '') {
          return 'end';
        }
        return this.#trailerBytes <= maxTrailerBytes && /^[!#$%&'*+.^_`|~\dA-Za-z-]+:/.test(line)
          ? 'more'
          : 'malformed';
    }
  }
}

const isControl = (byte: number): boolean => (byte < 32 && byte !== cr && byte !== 9) || byte === 127;
