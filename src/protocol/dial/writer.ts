import { type DialFrame, dialFrameBytes, putDialFrame } from './frame.ts';

const chunkBytes = 128 * 1024;

/**
 * Collects frames in one reused buffer, so that a batch of packets costs one write. `sink` takes what has been collected
 * and answers whether it is done with the buffer. Whoever puts frames also flushes.
 */
export class DialFrameWriter {
  readonly #sink: (bytes: Uint8Array) => boolean;
  #chunk = new Uint8Array(chunkBytes);
  #used = 0;

  constructor(sink: (bytes: Uint8Array) => boolean) {
    this.#sink = sink;
  }

  /** Bytes that wait for `flush`. */
  get length(): number {
    return this.#used;
  }

  put(frame: DialFrame): void {
    const length = dialFrameBytes(frame);
    if (this.#used + length > chunkBytes) {
      this.flush();
    }
    putDialFrame(frame, this.#chunk, this.#used);
    this.#used += length;
  }

  flush(): void {
    if (this.#used > 0) {
      const bytes = this.#chunk.subarray(0, this.#used);
      this.#used = 0;
      if (!this.#sink(bytes)) {
        this.#chunk = new Uint8Array(chunkBytes);
      }
    }
  }
}
