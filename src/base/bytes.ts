/** The one constructor of views: a view keeps its offset. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const empty = new Uint8Array(0);

/**
 * Received chunks, read in order without joining them on every arrival. `take` copies only when what is asked
 * for spans chunks; the result is valid until the chunk's owner reuses it.
 */
export class ChunkList {
  #chunks: Uint8Array[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(chunk: Uint8Array): void {
    if (chunk.length > 0) {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
    }
  }

  /** The first `count` bytes without consuming them, or undefined while fewer are here. */
  peek(count: number): Uint8Array | undefined {
    if (this.#length < count) {
      return undefined;
    }
    const first = this.#chunks[0] ?? empty;
    if (first.length >= count) {
      return first.subarray(0, count);
    }
    const joined = new Uint8Array(count);
    let filled = 0;
    for (const chunk of this.#chunks) {
      const part = chunk.subarray(0, count - filled);
      joined.set(part, filled);
      filled += part.length;
      if (filled === count) {
        break;
      }
    }
    return joined;
  }

  take(count: number): Uint8Array | undefined {
    const bytes = this.peek(count);
    if (bytes) {
      this.skip(count);
    }
    return bytes;
  }

  skip(count: number): void {
    let left = Math.min(count, this.#length);
    this.#length -= left;
    while (left > 0) {
      const first = this.#chunks[0] ?? empty;
      if (first.length > left) {
        this.#chunks[0] = first.subarray(left);
        return;
      }
      left -= first.length;
      this.#chunks.shift();
    }
  }
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
