import { type ClientHttp2Stream, constants } from 'node:http2';
import type { Diversion } from '../port/diversion.ts';
import type { SessionLegs } from './sessions.ts';

/** What a copy may lag behind the original; beyond, it is cut off. */
const maxLagBytes = 1024 * 1024;

/** The copy of one request for a wiretap: never waited for, its answer read and dropped. */
export class StreamTap {
  #stream: ClientHttp2Stream | undefined;
  #early: Buffer[] = [];
  #earlyBytes = 0;
  #isEnded = false;
  #isOver = false;

  constructor(legs: SessionLegs, target: Diversion, rawHeaders: string[], isBodyless: boolean) {
    this.#isEnded = isBodyless;
    void legs.open(target).then((session) => {
      try {
        this.#stream = session?.request(rawHeaders, { endStream: isBodyless });
      } catch {
        // Closed meanwhile: there is no copy.
      }
      if (!this.#stream) {
        this.#giveUp();
        return;
      }
      this.#stream.on('error', () => undefined);
      this.#stream.once('close', () => this.#giveUp());
      this.#stream.resume();
      for (const chunk of this.#early.splice(0)) {
        this.#stream.write(chunk);
      }
      if (this.#isEnded && !isBodyless) {
        this.#stream.end();
      }
    });
  }

  write(chunk: Buffer): void {
    if (this.#isOver || this.#isEnded) {
      return;
    }
    if (this.#stream) {
      this.#stream.write(chunk);
    } else {
      this.#early.push(chunk);
      this.#earlyBytes += chunk.length;
    }
    if ((this.#stream?.writableLength ?? this.#earlyBytes) > maxLagBytes) {
      this.#stream?.close(constants.NGHTTP2_CANCEL);
      this.#giveUp();
    }
  }

  end(): void {
    if (!this.#isEnded) {
      this.#isEnded = true;
      this.#stream?.end();
    }
  }

  #giveUp(): void {
    this.#isOver = true;
    this.#early = [];
  }
}
