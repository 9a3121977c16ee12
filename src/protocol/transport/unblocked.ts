import { Duplex } from 'node:stream';

/**
 * A duplex over another one that never lets a blocked write block reading. Node's HTTP/2 reads nothing while a write is
 * under way. With Node at both ends, bulk in both directions fills what lies between, and then each end waits for the
 * other to read: the session stands still until its PING is given up. So a write that waits counts as done once there
 * is more to read; what is kept then is bounded by the peer's windows. One end of the two is enough.
 *
 * The other one belongs to this one: it ends and is destroyed with it.
 */
export class Unblocked extends Duplex {
  readonly #under: Duplex;
  #isUnread = false;
  #written: (() => void) | undefined;

  constructor(under: Duplex) {
    super();
    this.#under = under;
    under.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) {
        this.#isUnread = true;
        under.pause();
        this.#release();
      }
    });
    under.on('drain', () => this.#release());
    under.on('end', () => this.push(null));
    under.on('error', (error) => this.destroy(error));
    under.on('close', () => this.destroy());
  }

  override _read(): void {
    this.#isUnread = false;
    this.#under.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#wrote(this.#under.write(chunk), done);
  }

  /** A flush of HTTP/2 is hundreds of pieces: they stay together. */
  override _writev(chunks: readonly { readonly chunk: Buffer }[], done: () => void): void {
    let hasRoom = true;
    this.#under.cork();
    for (const { chunk } of chunks) {
      hasRoom = this.#under.write(chunk);
    }
    this.#under.uncork();
    this.#wrote(hasRoom, done);
  }

  override _final(done: () => void): void {
    this.#under.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#under.destroy();
    done(error);
  }

  #wrote(hasRoom: boolean, done: () => void): void {
    if (hasRoom || this.#isUnread) {
      done();
    } else {
      this.#written = done;
    }
  }

  #release(): void {
    const done = this.#written;
    this.#written = undefined;
    done?.();
  }
}
