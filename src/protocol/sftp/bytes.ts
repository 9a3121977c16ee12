import { viewOf } from '../../base/index.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Reads the fields of one packet. What is not there any more reads as nothing, and `isWhole` is false from then on. */
export class FieldReader {
  readonly #bytes: Uint8Array;
  #at = 0;
  #isWhole = true;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Everything that was asked for was there. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  /** Everything was there, and nothing is left over. */
  get isDone(): boolean {
    return this.#isWhole && this.#at === this.#bytes.length;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#take(1)[0] ?? 0;
  }

  u32(): number {
    const bytes = this.#take(4);
    return bytes.length === 4 ? viewOf(bytes).getUint32(0) : 0;
  }

  /** No file is as long as 2^53 bytes: what is beyond is no length and no place. */
  u64(): number {
    const value = this.u32() * 0x1_0000_0000 + this.u32();
    if (!Number.isSafeInteger(value)) {
      this.#isWhole = false;
      return 0;
    }
    return value;
  }

  /** A view: whoever keeps it beyond the packet copies it. */
  bytes(): Uint8Array {
    return this.#take(this.u32());
  }

  text(): string {
    return decoder.decode(this.bytes());
  }

  rest(): Uint8Array {
    return this.#take(this.remaining);
  }

  #take(count: number): Uint8Array {
    if (!this.#isWhole || count > this.remaining) {
      this.#isWhole = false;
      return this.#bytes.subarray(0, 0);
    }
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }
}

/** Writes the fields of one packet, and grows as it must. */
export class FieldWriter {
  #bytes: Uint8Array;
  #length = 0;

  constructor(sizeBytes = 256) {
    this.#bytes = new Uint8Array(sizeBytes);
  }

  u8(value: number): this {
    this.#room(1)[0] = value;
    return this;
  }

  u32(value: number): this {
    viewOf(this.#room(4)).setUint32(0, value);
    return this;
  }

  u64(value: number): this {
    return this.u32(Math.floor(value / 0x1_0000_0000)).u32(value % 0x1_0000_0000);
  }

  bytes(value: Uint8Array): this {
    this.u32(value.length);
    return this.raw(value);
  }

  text(value: string): this {
    return this.bytes(encoder.encode(value));
  }

  raw(value: Uint8Array): this {
    this.#room(value.length).set(value);
    return this;
  }

  get written(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #room(count: number): Uint8Array {
    if (this.#length + count > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + count));
      grown.set(this.written);
      this.#bytes = grown;
    }
    this.#length += count;
    return this.#bytes.subarray(this.#length - count, this.#length);
  }
}
