import { type NearfieldError, Queue, viewOf } from '../../../base/index.ts';
import { streamBroken } from '../../errors.ts';
import type { TunnelHandlers, TunnelStream } from '../stream.ts';
import { maxPieceBytes, muxCode } from './frame.ts';

/**
 * What may be on its way to a reader: little at first, so that thousands who stand still (at a breakpoint, say) hold
 * little, and more for one that keeps up: 4 MiB keep 1 Gbit/s busy at 30 ms.
 */
export const firstWindowBytes = 256 * 1024;
const maxWindowBytes = 4 * 1024 * 1024;
/** Who sends on after a “full” may do so for so long; beyond, it is lost. Only whoever sends datagrams does. */
export const overdraftBytes = 1024 * 1024;
/** What an event that waits takes itself: a megabyte that comes byte by byte is a hundred. */
const eventBytes = 128;
const nothing = new Uint8Array(0);

/** What a connection needs of the stream that carries it. */
export interface MuxCarrier {
  /** Whether there is room for more. */
  hasRoom(): boolean;
  /** `isPatient`: it may wait for what the next turn of the loop brings. */
  write(code: number, connection: number, body: Uint8Array, isPatient?: boolean): void;
  /** Calls the connection's `drain` when there is room again. */
  waitForRoom(connection: MuxConnection): void;
  /** So many bytes more, or less, are kept for a reader. */
  held(bytes: number): void;
  forget(connection: MuxConnection): void;
}

type Event = { readonly slice: Uint8Array; readonly last: boolean } | (() => void);

const heldBy = (event: Event): number => eventBytes + (typeof event === 'function' ? 0 : event.slice.length);

/** One of the connections, to whom it belongs a tunnel as any other. */
export class MuxConnection implements TunnelStream {
  readonly number: number;
  readonly #carrier: MuxCarrier;
  readonly #queue = new Queue<Event>();
  #handlers: TunnelHandlers | undefined;
  #isPaused = false;
  #isDelivering = false;
  #isSendEnded = false;
  #isPeerEnded = false;
  #isClosed = false;
  #result: string | undefined;
  /** What the peer still takes. */
  #credit = firstWindowBytes;
  #isWaiting = false;
  /** What we take at most before it is consumed, how much of it has come, and been consumed since we said so. */
  #window = firstWindowBytes;
  #taken = 0;
  #consumed = 0;

  constructor(number: number, carrier: MuxCarrier) {
    this.number = number;
    this.#carrier = carrier;
  }

  start(handlers: TunnelHandlers): void {
    this.#handlers = handlers;
    this.#deliver();
  }

  send(code: number, body: Uint8Array = nothing): boolean {
    if (this.#isSendEnded || this.#isClosed) {
      return true;
    }
    if (code === muxCode.normal) {
      return this.sendData(body);
    }
    if (code === muxCode.closeSend) {
      this.endSend();
    } else {
      this.#write(code, body);
    }
    return true;
  }

  sendSoon(code: number): void {
    if (!this.#isSendEnded && !this.#isClosed) {
      this.#write(code, nothing, true);
    }
  }

  sendData(chunk: Uint8Array): boolean {
    if (this.#isSendEnded || this.#isClosed) {
      return true;
    }
    if (this.#credit > -overdraftBytes) {
      this.#credit -= chunk.length;
      for (let at = 0; at < chunk.length || at === 0; at += maxPieceBytes) {
        this.#write(muxCode.normal, chunk.length > maxPieceBytes ? chunk.subarray(at, at + maxPieceBytes) : chunk);
      }
    }
    if (this.#credit > 0 && this.#carrier.hasRoom()) {
      return true;
    }
    this.#wait();
    return false;
  }

  endSend(): void {
    if (!this.#isSendEnded && !this.#isClosed) {
      this.#isSendEnded = true;
      this.#write(muxCode.closeSend, nothing, true);
      this.#closeWhenOver();
    }
  }

  /** Nothing here waits longer than this turn. */
  flush(): void {}

  finish(result = ''): void {
    if (!this.#isClosed) {
      this.#write(muxCode.finish, Buffer.from(result), true);
      this.#close();
    }
  }

  reset(): void {
    if (!this.#isClosed) {
      this.#write(muxCode.drop);
      this.#close(streamBroken('given up here'));
    }
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#deliver();
  }

  get isSendEnded(): boolean {
    return this.#isSendEnded;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get result(): string | undefined {
    return this.#result;
  }

  /** A frame has come. Answers why it is malformed, or undefined. */
  receive(code: number, body: Uint8Array): string | undefined {
    switch (code) {
      case muxCode.credit:
        return this.#earn(body);
      case muxCode.closeSend:
        this.#enqueue(() => this.#end());
        return undefined;
      case muxCode.finish:
        this.#enqueue(() => {
          this.#result = Buffer.from(body).toString() || undefined;
          this.#isSendEnded = true;
          this.#end();
          this.#close();
        });
        return undefined;
      case muxCode.drop:
        this.lose(streamBroken('the far end gave it up'));
        return undefined;
      default:
        this.#enqueue(() => this.#handlers?.onControl(code, body));
        return undefined;
    }
  }

  receiveData(slice: Uint8Array, last: boolean): string | undefined {
    this.#taken += slice.length;
    if (this.#taken > this.#window + 2 * overdraftBytes) {
      return 'more data than there is room for';
    }
    if (this.#isFlowing) {
      this.#handlers?.onData(slice, last);
      this.#consume(slice.length);
    } else {
      this.#keep({ slice, last });
    }
    return undefined;
  }

  /** There is room in the carrier. */
  drain(): void {
    if (this.#isWaiting && !this.#isClosed && this.#credit > 0) {
      this.#isWaiting = false;
      this.#handlers?.onDrain();
    }
  }

  /** Everything that waits to be read is lost too. */
  lose(error: NearfieldError): void {
    this.#close(error);
  }

  get #isFlowing(): boolean {
    return this.#handlers !== undefined && !this.#isPaused && this.#queue.length === 0 && !this.#isDelivering;
  }

  #enqueue(event: () => void): void {
    this.#keep(event);
    this.#deliver();
  }

  #keep(event: Event): void {
    this.#queue.push(event);
    this.#carrier.held(heldBy(event));
  }

  #deliver(): void {
    if (this.#isDelivering) {
      return;
    }
    this.#isDelivering = true;
    while (this.#handlers && !this.#isPaused) {
      const event = this.#queue.shift();
      if (!event) {
        break;
      }
      this.#carrier.held(-heldBy(event));
      if (typeof event === 'function') {
        event();
      } else {
        this.#handlers.onData(event.slice, event.last);
        this.#consume(event.slice.length);
      }
    }
    this.#isDelivering = false;
  }

  #consume(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < this.#window / 2 || this.#isPeerEnded || this.#isClosed) {
      return;
    }
    const isKeepingUp = !this.#isPaused && this.#queue.length === 0;
    const more = isKeepingUp && this.#window < maxWindowBytes ? this.#window : 0;
    this.#window += more;
    const body = Buffer.allocUnsafe(4);
    body.writeUInt32BE(this.#consumed + more, 0);
    this.#taken -= this.#consumed;
    this.#consumed = 0;
    this.#write(muxCode.credit, body, true);
  }

  #earn(body: Uint8Array): string | undefined {
    if (body.length !== 4) {
      return 'a credit is a number';
    }
    this.#credit += viewOf(body).getUint32(0);
    if (this.#credit > Number.MAX_SAFE_INTEGER / 2) {
      return 'too much credit';
    }
    if (this.#carrier.hasRoom()) {
      this.drain();
    } else if (this.#isWaiting) {
      this.#carrier.waitForRoom(this);
    }
    return undefined;
  }

  #wait(): void {
    this.#isWaiting = true;
    if (!this.#carrier.hasRoom()) {
      this.#carrier.waitForRoom(this);
    }
  }

  #end(): void {
    if (!this.#isPeerEnded) {
      this.#isPeerEnded = true;
      this.#handlers?.onEnd();
      this.#closeWhenOver();
    }
  }

  #closeWhenOver(): void {
    if (this.#isPeerEnded && this.#isSendEnded) {
      this.#close();
    }
  }

  #close(error?: NearfieldError): void {
    if (this.#isClosed) {
      return;
    }
    this.#isClosed = true;
    this.#isPaused = false;
    for (let event = this.#queue.shift(); event; event = this.#queue.shift()) {
      this.#carrier.held(-heldBy(event));
    }
    this.#carrier.forget(this);
    // Whoever ends it is in the middle of something; and whoever has not begun is told when it does.
    const tell = (): void => this.#handlers?.onClose(error);
    if (this.#handlers) {
      queueMicrotask(tell);
    } else {
      this.#keep(tell);
    }
  }

  #write(code: number, body: Uint8Array = nothing, isPatient = false): void {
    this.#carrier.write(code, this.number, body, isPatient);
  }
}
