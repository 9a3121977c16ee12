import type { Duplex } from 'node:stream';

export type Reading = Buffer | 'end' | 'lost';

/**
 * Reads a connection piece by piece, when asked: what is not asked for stays in the kernel, but for one buffer. Between
 * questions it goes on listening, so that the end of a connection is noticed. One question at a time.
 */
export class ByteReader {
  readonly #source: Duplex;
  readonly #listener = (): void => {
    if (this.#source.readableLength === 0 && !this.#source.destroyed) {
      // An end is only told to those who read.
      this.#source.read(0);
    }
    this.#wake();
  };
  #rest: Buffer | undefined;
  #wake: () => void = () => undefined;
  #isInterrupted = false;

  constructor(source: Duplex) {
    this.#source = source;
    for (const event of events) {
      source.on(event, this.#listener);
    }
  }

  async next(): Promise<Reading> {
    this.#isInterrupted = false;
    for (;;) {
      if (this.#rest) {
        const rest = this.#rest;
        this.#rest = undefined;
        return rest;
      }
      const chunk: unknown = this.#source.destroyed ? null : this.#source.read();
      if (Buffer.isBuffer(chunk)) {
        return chunk;
      }
      if (this.#source.readableEnded) {
        return 'end';
      }
      if (this.#source.destroyed || this.#isInterrupted) {
        return 'lost';
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** What was read too far comes again. */
  unread(bytes: Buffer): void {
    if (bytes.length > 0) {
      this.#rest = this.#rest ? Buffer.concat([bytes, this.#rest]) : bytes;
    }
  }

  /** Something can be read at once. */
  get hasMore(): boolean {
    return this.#rest !== undefined || this.#source.readableLength > 0;
  }

  /** Whoever waits in `next` hears `lost`. */
  interrupt(): void {
    this.#isInterrupted = true;
    this.#wake();
  }

  /** Leaves the connection, paused, to another reader, who finds what was unread. */
  async release(): Promise<void> {
    for (const event of events) {
      this.#source.off(event, this.#listener);
    }
    // One turn after its last reader left, a stream decides whether it flows.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    this.#source.pause();
    if (this.#rest) {
      this.#source.unshift(this.#rest);
      this.#rest = undefined;
    }
  }
}

const events = ['readable', 'end', 'close', 'error'] as const;

/** Resolves when there is room again, or when there is nobody left to write to. */
export function send(to: Duplex, bytes: Uint8Array): Promise<void> | undefined {
  if (to.destroyed || to.writableEnded || to.write(bytes)) {
    return undefined;
  }
  return new Promise((resolve) => {
    const done = (): void => {
      to.off('drain', done);
      to.off('close', done);
      resolve();
    };
    to.on('drain', done);
    to.on('close', done);
  });
}
