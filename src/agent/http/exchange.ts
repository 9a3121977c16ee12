import type { Socket } from 'node:net';
import type { Diversion } from '../port/diversion.ts';
import { breakOff } from '../port/join.ts';
import { maxReplayBytes } from '../port/said.ts';
import { createBodyReader } from './body.ts';
import { parseResponseHead, type RequestHead, type ResponseHead } from './head.ts';
import type { Leg, Legs } from './leg.ts';
import { type ByteReader, send } from './reader.ts';

export interface ExchangeDeps {
  readonly caller: Socket;
  readonly reader: ByteReader;
  readonly legs: Legs;
  /** Sees everything the caller says. */
  readonly copy: (bytes: Buffer) => void;
}

/**
 * How a request went: another may follow; the connection ends in order; it is lost; the caller wrote nonsense and has
 * no answer yet; it has become something else and is over.
 */
export type ExchangeOutcome = 'next' | 'end' | 'lost' | 'malformed';
type BodyOutcome = 'done' | 'truncated' | 'lost' | 'malformed';

/**
 * One request and its answer. The body flows while the answer may already come back. Until the answer begins, the
 * request is kept as far as there is room, and said again to the next of `targets` when its hearer is lost.
 */
export class Exchange {
  readonly #deps: ExchangeDeps;
  readonly #head: RequestHead;
  #leg: Leg | undefined;
  #legFound = Promise.withResolvers<void>();
  #sent: Buffer[] | undefined = [];
  #sentBytes = 0;
  #bodyOutcome: BodyOutcome | undefined;

  constructor(deps: ExchangeDeps, head: RequestHead) {
    this.#deps = deps;
    this.#head = head;
  }

  /** `targets` in the order in which they are tried; undefined is the application. */
  async run(headBytes: Buffer, targets: readonly (Diversion | undefined)[]): Promise<ExchangeOutcome> {
    this.#keep(headBytes);
    this.#deps.copy(headBytes);
    let body: Promise<void> | undefined;
    const left = [...targets];
    while (left.length > 0) {
      const leg = await this.#deps.legs.open(left[0]);
      if (!leg) {
        left.shift();
        continue;
      }
      this.#hear(leg);
      body ??= this.#pumpBody();
      const response = await this.#pumpResponse(leg);
      if (response === 'unheard') {
        if (!leg.hasServed) {
          left.shift();
        }
        this.#leg = undefined;
        this.#legFound = Promise.withResolvers();
        const isEnded = leg.duplex.readableEnded;
        this.#deps.legs.drop(leg);
        if (this.#bodyOutcome === 'malformed') {
          return 'malformed';
        }
        const isOver = this.#bodyOutcome === 'lost' || this.#bodyOutcome === 'truncated' || !this.#sent;
        if (isOver || left.length === 0) {
          return isEnded && this.#bodyOutcome !== 'lost' ? 'end' : 'lost';
        }
        continue;
      }
      leg.hasServed = true;
      if (response === 'next' && this.#head.keepsAlive) {
        await body;
        return this.#bodyOutcome === 'done' ? 'next' : 'end';
      }
      return response === 'next' ? 'end' : response;
    }
    return 'lost';
  }

  #keep(bytes: Buffer): void {
    this.#sentBytes += bytes.length;
    if (this.#sentBytes > maxReplayBytes + this.#headRoom) {
      this.#sent = undefined;
    }
    this.#sent?.push(bytes);
  }

  /** The head is there anyway. */
  get #headRoom(): number {
    return this.#sent?.[0]?.length ?? this.#sentBytes;
  }

  #hear(leg: Leg): void {
    for (const bytes of this.#sent ?? []) {
      leg.duplex.write(bytes);
    }
    if (this.#bodyOutcome) {
      this.#endBody(leg, this.#bodyOutcome);
    }
    this.#leg = leg;
    this.#legFound.resolve();
  }

  async #pumpBody(): Promise<void> {
    this.#bodyOutcome = await this.#readBody();
    if (this.#leg) {
      this.#endBody(this.#leg, this.#bodyOutcome);
    }
  }

  #endBody(leg: Leg, outcome: BodyOutcome): void {
    if (outcome === 'truncated') {
      leg.duplex.end();
    } else if (outcome !== 'done') {
      breakOff(leg.duplex);
    }
  }

  async #readBody(): Promise<BodyOutcome> {
    const { reader, copy } = this.#deps;
    if (this.#head.body.kind === 'none') {
      return 'done';
    }
    const body = createBodyReader(this.#head.body);
    for (;;) {
      const bytes = await reader.next();
      if (typeof bytes === 'string') {
        return bytes === 'end' ? 'truncated' : 'lost';
      }
      const step = body.push(bytes);
      if (step.kind === 'malformed') {
        return 'malformed';
      }
      const part = step.bytes === bytes.length ? bytes : bytes.subarray(0, step.bytes);
      reader.unread(bytes.subarray(step.bytes));
      this.#keep(part);
      copy(part);
      if (this.#leg) {
        await send(this.#leg.duplex, part);
      }
      // Whoever hears next gets what was kept; more is not read meanwhile.
      await this.#legFound.promise;
      if (step.isEnd) {
        return 'done';
      }
    }
  }

  /** `unheard`: no byte of an answer came. */
  async #pumpResponse(leg: Leg): Promise<'next' | 'end' | 'lost' | 'unheard'> {
    const { caller } = this.#deps;
    for (;;) {
      const head = await this.#readResponseHead(leg);
      if (head === 'unheard') {
        return head;
      }
      if (head.value && head.value.status < 200 && head.value.status !== 101) {
        await send(caller, head.bytes);
        continue;
      }
      this.#sent = undefined;
      await send(caller, head.bytes);
      if (!head.value) {
        // Not to be read: it is the caller's as it is, and ends with the connection.
        return (await carry(leg.reader, caller)) === 'end' ? 'end' : 'lost';
      }
      if (head.value.status === 101 || (this.#head.method === 'CONNECT' && head.value.status < 300)) {
        return await this.#becomeOther(leg);
      }
      return await this.#pumpResponseBody(leg, head.value);
    }
  }

  /** Without `value` the bytes are not understood. */
  async #readResponseHead(
    leg: Leg,
  ): Promise<'unheard' | { readonly value: ResponseHead | undefined; readonly bytes: Buffer }> {
    let bytes: Buffer = Buffer.alloc(0);
    for (;;) {
      const chunk = await leg.reader.next();
      if (typeof chunk === 'string') {
        return 'unheard';
      }
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      const read = parseResponseHead(bytes, this.#head.method);
      if (read.kind === 'malformed') {
        return { value: undefined, bytes };
      }
      if (read.kind === 'value') {
        leg.reader.unread(bytes.subarray(read.bytesRead));
        return { value: read.value, bytes: bytes.subarray(0, read.bytesRead) };
      }
    }
  }

  async #pumpResponseBody(leg: Leg, head: ResponseHead): Promise<'next' | 'end' | 'lost'> {
    const { caller } = this.#deps;
    const body = createBodyReader(head.body);
    const after = head.keepsAlive ? 'next' : 'end';
    if (head.body.kind === 'none') {
      return after;
    }
    for (;;) {
      const bytes = await leg.reader.next();
      if (typeof bytes === 'string') {
        return bytes === 'end' && head.body.kind === 'rest' ? 'end' : 'lost';
      }
      const step = body.push(bytes);
      if (step.kind === 'malformed') {
        return 'lost';
      }
      leg.reader.unread(bytes.subarray(step.bytes));
      await send(caller, step.bytes === bytes.length ? bytes : bytes.subarray(0, step.bytes));
      if (step.isEnd) {
        return after;
      }
    }
  }

  /** An upgrade: from here on the connection is its side's, whatever is spoken. */
  async #becomeOther(leg: Leg): Promise<'end' | 'lost'> {
    const { caller, reader, copy } = this.#deps;
    const ends = await Promise.all([carry(reader, leg.duplex, copy), carry(leg.reader, caller)]);
    return ends.includes('lost') ? 'lost' : 'end';
  }
}

/** Everything from one side to the other, with half-close and reset kept apart. */
export async function carry(
  from: ByteReader,
  to: Leg['duplex'],
  copy?: (bytes: Buffer) => void,
): Promise<'end' | 'lost'> {
  for (;;) {
    const bytes = await from.next();
    if (bytes === 'end') {
      to.end();
      return 'end';
    }
    if (bytes === 'lost') {
      breakOff(to);
      return 'lost';
    }
    copy?.(bytes);
    await send(to, bytes);
  }
}
