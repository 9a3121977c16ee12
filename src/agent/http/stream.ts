import { type ClientHttp2Session, type ClientHttp2Stream, constants, type ServerHttp2Stream } from 'node:http2';
import type { Diversion } from '../port/diversion.ts';
import { maxReplayBytes } from '../port/said.ts';
import type { SessionLegs } from './sessions.ts';
import type { StreamTap } from './stream-tap.ts';

const endStreamFlag = 1;
const { NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM, NGHTTP2_NO_ERROR, NGHTTP2_PROTOCOL_ERROR } = constants;

/**
 * One stream of a caller and the one it becomes behind the agent. Each direction waits for the other's window; trailers
 * stay trailers; a reset keeps its code. Until the answer begins, the request is kept as far as there is room.
 */
export class StreamRelay {
  readonly #stream: ServerHttp2Stream;
  readonly #rawHeaders: string[];
  readonly #isBodyless: boolean;
  readonly #copies: readonly StreamTap[];
  #sent: Buffer[] | undefined = [];
  #sentBytes = 0;
  #isEnded: boolean;
  #trailers: string[] = [];
  #behind: ClientHttp2Stream | undefined;

  constructor(stream: ServerHttp2Stream, rawHeaders: string[], isBodyless: boolean, copies: readonly StreamTap[]) {
    this.#stream = stream;
    this.#rawHeaders = rawHeaders;
    this.#isBodyless = isBodyless;
    this.#isEnded = isBodyless;
    this.#copies = copies;
  }

  /** `targets` in the order in which they are tried; undefined is the application. */
  async run(legs: SessionLegs, targets: readonly (Diversion | undefined)[]): Promise<void> {
    const stream = this.#stream;
    // They may be here before there is anybody to hear them.
    stream.on('trailers', (_headers, _flags, raw: string[]) => {
      this.#trailers = raw;
    });
    stream.once('close', () => {
      for (const copy of this.#copies) {
        copy.end();
      }
      this.#behind?.close(stream.rstCode === NGHTTP2_NO_ERROR ? NGHTTP2_CANCEL : stream.rstCode);
    });
    for (const target of targets) {
      const session = await legs.open(target);
      if (stream.destroyed) {
        return;
      }
      if (session && this.#sent && (await this.#relay(session)) === 'heard') {
        return;
      }
    }
    if (!stream.destroyed) {
      // Nobody has begun to work on it: the caller may try again (RFC 9113 §8.7).
      stream.close(this.#sent ? NGHTTP2_REFUSED_STREAM : NGHTTP2_CANCEL);
    }
  }

  /** `unheard`: the other side is gone, and no byte of an answer came. */
  #relay(session: ClientHttp2Session): Promise<'heard' | 'unheard'> {
    let behind: ClientHttp2Stream;
    try {
      behind = session.request(this.#rawHeaders, { endStream: this.#isBodyless, waitForTrailers: !this.#isBodyless });
    } catch {
      return Promise.resolve('unheard');
    }
    const outcome = this.#listen(behind, session);
    for (const chunk of this.#sent ?? []) {
      behind.write(chunk);
    }
    if (this.#isEnded && !this.#isBodyless) {
      behind.end();
    }
    const isFirst = this.#behind === undefined;
    this.#behind = behind;
    if (isFirst && !this.#isBodyless) {
      this.#listenToCaller();
    } else {
      this.#stream.resume();
    }
    return outcome;
  }

  #listenToCaller(): void {
    const stream = this.#stream;
    stream.on('data', (chunk: Buffer) => {
      this.#sentBytes += chunk.length;
      if (this.#sentBytes > maxReplayBytes) {
        this.#sent = undefined;
      }
      this.#sent?.push(chunk);
      for (const copy of this.#copies) {
        copy.write(chunk);
      }
      if (this.#behind && !this.#behind.destroyed && !this.#behind.writableEnded && !this.#behind.write(chunk)) {
        stream.pause();
      }
    });
    stream.on('end', () => {
      this.#isEnded = true;
      for (const copy of this.#copies) {
        copy.end();
      }
      if (this.#behind && !this.#behind.destroyed) {
        this.#behind.end();
      }
    });
  }

  #listen(behind: ClientHttp2Stream, session: ClientHttp2Session): Promise<'heard' | 'unheard'> {
    const stream = this.#stream;
    let hasAnswered = false;
    let trailers: string[] = [];
    behind.on('error', () => undefined);
    behind.on('drain', () => stream.resume());
    behind.on('wantTrailers', () => orClose(behind, () => behind.sendTrailers(toHeaders(this.#trailers))));
    behind.on('headers', (headers) => {
      if (!stream.destroyed && !stream.headersSent) {
        orClose(stream, () => stream.additionalHeaders(headers));
      }
    });
    behind.on('response', (_headers, flags, raw: string[]) => {
      hasAnswered = true;
      this.#sent = undefined;
      if (stream.destroyed) {
        return;
      }
      const endStream = (flags & endStreamFlag) !== 0;
      // Known to Node and not to its types: the date is the application's to give.
      const options = { endStream, waitForTrailers: !endStream, sendDate: false };
      orClose(stream, () => stream.respond(raw, options));
      stream.on('wantTrailers', () => orClose(stream, () => stream.sendTrailers(toHeaders(trailers))));
      stream.on('drain', () => behind.resume());
      // Only now: Node tells of a head one turn after it has read it, and of data at once.
      behind.on('data', (chunk: Buffer) => {
        if (!stream.destroyed && !stream.writableEnded && !stream.write(chunk)) {
          behind.pause();
        }
      });
    });
    behind.on('trailers', (_headers, _flags, raw: string[]) => {
      trailers = raw;
    });
    behind.on('end', () => {
      if (hasAnswered && behind.rstCode === NGHTTP2_NO_ERROR && !session.destroyed && !stream.writableEnded) {
        stream.end();
      }
    });
    return new Promise((resolve) => {
      behind.once('close', () => {
        const isGone = session.destroyed || behind.rstCode === NGHTTP2_REFUSED_STREAM;
        if (!hasAnswered && isGone && !stream.destroyed) {
          // What comes meanwhile waits for the next hearer.
          stream.pause();
          resolve('unheard');
          return;
        }
        if (behind.rstCode !== NGHTTP2_NO_ERROR || (session.destroyed && !stream.writableEnded)) {
          stream.close(behind.rstCode === NGHTTP2_NO_ERROR ? NGHTTP2_CANCEL : behind.rstCode);
        }
        resolve('heard');
      });
    });
  }
}

/** Node throws on heads that HTTP/2 does not allow. Whoever sent one loses a stream; an exception would end the agent. */
function orClose(stream: ServerHttp2Stream | ClientHttp2Stream, work: () => void): void {
  try {
    work();
  } catch {
    stream.close(NGHTTP2_PROTOCOL_ERROR);
  }
}

/** Pairs as they were sent; several of a name become a list, which the wire shows as several again. */
export function toHeaders(raw: readonly string[]): Record<string, string[]> {
  const headers: Record<string, string[]> = {};
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? '';
    headers[name] = [...(headers[name] ?? []), raw[at + 1] ?? ''];
  }
  return headers;
}
