import type { Socket } from 'node:net';

/** What of a connection is kept to be said again to the application, should the developer's side be lost. */
export const maxReplayBytes = 64 * 1024;

/**
 * What a caller has said so far, for as long as nobody has answered: whoever was to answer may be lost with the
 * connection to the developer's machine, and the application can then be asked in its place.
 */
export class Said {
  readonly #socket: Socket;
  readonly #parts: Buffer[] = [];
  #bytes = 0;
  #isComplete = true;
  readonly #listen = (chunk: Buffer): void => {
    this.#bytes += chunk.length;
    this.#parts.push(chunk);
    if (this.#bytes > maxReplayBytes) {
      this.forget();
    }
  };

  /** Listens beside whoever reads; the socket stays paused until somebody resumes it. */
  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', this.#listen);
  }

  /** Somebody has answered, or it was too much. */
  forget(): void {
    this.#isComplete = false;
    this.#parts.length = 0;
    this.#socket.off('data', this.#listen);
  }

  /** Everything that was said, once; undefined where it cannot be said again. */
  take(): Buffer | undefined {
    const all = this.#isComplete ? Buffer.concat(this.#parts) : undefined;
    this.forget();
    return all;
  }
}
