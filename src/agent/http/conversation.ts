import type { Socket } from 'node:net';
import type { Clock, Disposable, Logger } from '../../base/index.ts';
import type { Diversion, PortPlan } from '../port/diversion.ts';
import { breakOff } from '../port/join.ts';
import { Tap } from '../port/tap.ts';
import type { Caller, Diverter } from '../tunnel/diverter.ts';
import { Exchange } from './exchange.ts';
import { maxHeadBytes, parseRequestHead, type RequestHead, toFiltered, tooLarge } from './head.ts';
import type { Legs } from './leg.ts';
import type { ByteReader } from './reader.ts';

export interface ConversationDeps {
  readonly plan: () => PortPlan;
  readonly caller: Caller;
  readonly diverter: Diverter;
  readonly clock: Clock;
  readonly log: Logger;
}

/** From the first byte of a head to its last. */
const headTimeoutMs = 10_000;
/** A caller whose connection the application closed may still be about to use it. */
const afterAppMs = 60_000;
/** The caller has this long to read the last answer and to close. */
const lingerMs = 2_000;
const lineFeed = 10;

type HeadOutcome =
  | { readonly kind: 'head'; readonly head: RequestHead; readonly bytes: Buffer }
  | { readonly kind: 'end' | 'lost' }
  | { readonly kind: 'refused'; readonly status: keyof typeof refusals };

const refusals = {
  400: 'Bad Request',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
} as const;

/**
 * One HTTP/1 connection of a caller (RFC 9112): each request goes where the filters of its moment say. One after the
 * other, though a caller may send them all at once: so answers are in their order wherever they come from.
 */
export class Conversation {
  readonly #caller: Socket;
  readonly #reader: ByteReader;
  readonly #legs: Legs;
  readonly #deps: ConversationDeps;
  readonly #taps = new Map<string, Tap>();
  #isIdle = false;
  #afterApp: Disposable | undefined;

  constructor(caller: Socket, reader: ByteReader, legs: Legs, deps: ConversationDeps) {
    this.#caller = caller;
    this.#reader = reader;
    this.#legs = legs;
    this.#deps = deps;
  }

  async run(): Promise<void> {
    for (;;) {
      const read = await this.#readHead();
      if (read.kind === 'refused') {
        this.#refuse(read.status);
        return;
      }
      if (read.kind !== 'head') {
        this.#finish(read.kind === 'lost' && this.#caller.destroyed);
        return;
      }
      const outcome = await this.#exchange(read.head, read.bytes);
      if (outcome === 'malformed') {
        this.#refuse(400);
        return;
      }
      if (outcome !== 'next') {
        this.#finish(outcome === 'lost');
        return;
      }
    }
  }

  /** The application has closed its connection of this caller: it would close the caller's now. */
  appHasGone(): void {
    if (this.#isIdle) {
      this.#afterApp ??= this.#deps.clock.after(afterAppMs, () => this.#reader.interrupt());
    }
  }

  async #exchange(head: RequestHead, bytes: Buffer): Promise<'next' | 'end' | 'lost' | 'malformed'> {
    const request = toFiltered(head);
    const { filtered, whole, taps } = this.#deps.plan();
    const wanted = filtered.find(({ matches }) => matches?.(request)) ?? whole;
    const copies = taps.filter(({ matches }) => !matches || matches(request)).map((each) => this.#tap(each));
    const exchange = new Exchange(
      {
        caller: this.#caller,
        reader: this.#reader,
        legs: this.#legs,
        copy: (part) => {
          for (const copy of copies) {
            copy.write(part);
          }
        },
      },
      head,
    );
    return await exchange.run(bytes, wanted ? [wanted, undefined] : [undefined]);
  }

  /** One copy a wiretap: its program sees one connection with all the requests that it wants. */
  #tap(diversion: Diversion): Tap {
    const kept = this.#taps.get(diversion.interceptId);
    const tap = kept ?? new Tap(this.#deps, this.#deps.caller, diversion);
    this.#taps.set(diversion.interceptId, tap);
    return tap;
  }

  async #readHead(): Promise<HeadOutcome> {
    let bytes: Buffer = Buffer.alloc(0);
    let isLate = false;
    let limit: Disposable | undefined;
    this.#isIdle = true;
    try {
      for (;;) {
        const chunk = await this.#reader.next();
        if (typeof chunk === 'string') {
          return isLate ? { kind: 'refused', status: 408 } : { kind: bytes.length === 0 ? chunk : 'lost' };
        }
        this.#isIdle = false;
        void this.#afterApp?.dispose();
        this.#afterApp = undefined;
        limit ??= this.#deps.clock.after(headTimeoutMs, () => {
          isLate = true;
          this.#reader.interrupt();
        });
        // An empty line in front of a request is passed over (RFC 9112 §2.2).
        bytes = withoutEmptyLines(bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]));
        if (!chunk.includes(lineFeed) && bytes.length < maxHeadBytes) {
          continue;
        }
        const read = parseRequestHead(bytes);
        if (read.kind === 'malformed') {
          this.#deps.log.debug('a request was refused', { why: read.why });
          return { kind: 'refused', status: read.why === tooLarge ? 431 : 400 };
        }
        if (read.kind === 'value') {
          this.#reader.unread(bytes.subarray(read.bytesRead));
          return { kind: 'head', head: read.value, bytes: bytes.subarray(0, read.bytesRead) };
        }
      }
    } finally {
      this.#isIdle = false;
      void limit?.dispose();
    }
  }

  #refuse(status: keyof typeof refusals): void {
    this.#caller.write(`HTTP/1.1 ${status} ${refusals[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    this.#finish(false);
  }

  #finish(isFailure: boolean): void {
    void this.#afterApp?.dispose();
    for (const tap of this.#taps.values()) {
      tap.end();
    }
    this.#legs.close(isFailure);
    if (isFailure) {
      breakOff(this.#caller);
      return;
    }
    // To close while the caller still sends would be a reset, which may overtake the answer (RFC 9112 §9.6).
    this.#caller.end();
    void this.#reader.release().then(() => this.#caller.resume());
    const limit = this.#deps.clock.after(lingerMs, () => this.#caller.destroy());
    this.#caller.once('close', () => void limit.dispose());
  }
}

function withoutEmptyLines(bytes: Buffer): Buffer {
  let at = 0;
  while (bytes[at] === 13 && bytes[at + 1] === 10) {
    at += 2;
  }
  return bytes.subarray(at);
}
