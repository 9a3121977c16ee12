import { type Clock, type Disposable, type Logger, Queue } from '../../base/index.ts';
import type { TunnelHandlers } from '../../protocol/transport/index.ts';
import type { TakenTunnel } from '../tunnel/dialled.ts';
import type { Caller, Diverter } from '../tunnel/diverter.ts';
import { discard } from '../tunnel/duplex.ts';
import type { Diversion } from './diversion.ts';

/** What a copy may lag behind the original; beyond, it is cut off. */
const maxLagBytes = 1024 * 1024;
/** The local program of a wiretap has this long to answer what nobody reads. */
const lingerMs = 10_000;

export interface TapDeps {
  readonly diverter: Diverter;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface TapHooks {
  /** The developer's side has it. */
  readonly onTaken?: () => void;
  /** Everything was said, and the developer's program has not ended yet. */
  readonly onSaid?: () => void;
  readonly onOver?: () => void;
}

/**
 * A copy of what one caller says, for a developer who only listens. It never holds up the original, never answers, and
 * ends by itself: refused, dead or too slow, it is dropped and the original goes on.
 */
export class Tap {
  readonly #deps: TapDeps;
  readonly #diversion: Diversion;
  readonly #hooks: TapHooks;
  #queue = new Queue<Uint8Array>();
  #lagBytes = 0;
  #tunnel: TakenTunnel | undefined;
  #isBlocked = true;
  #isEnded = false;
  #isOver = false;
  #linger: Disposable | undefined;

  constructor(deps: TapDeps, caller: Caller, diversion: Diversion, hooks: TapHooks = {}) {
    this.#deps = deps;
    this.#diversion = diversion;
    this.#hooks = hooks;
    void deps.diverter.open(caller, diversion).taken.then((tunnel) => this.#attach(tunnel));
  }

  /** The bytes are kept, not copied; for UDP one call is one datagram. */
  write(chunk: Uint8Array): void {
    if (this.#isOver || this.#isEnded) {
      return;
    }
    if (this.#isBlocked) {
      this.#lagBytes += chunk.length;
      if (this.#lagBytes > maxLagBytes) {
        this.#deps.log.info('a wiretap fell behind and was cut off', { intercept: this.#diversion.interceptId });
        this.#giveUp();
        return;
      }
      this.#queue.push(chunk);
    } else {
      this.#isBlocked = !this.#tunnel?.stream.sendData(chunk);
    }
  }

  /** The caller says no more. */
  end(): void {
    if (this.#isEnded) {
      return;
    }
    this.#isEnded = true;
    this.#finishWhenSent();
  }

  /** What it has heard is not all, and the developer's program is told so by a reset. */
  breakOff(): void {
    this.#giveUp();
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  #attach(tunnel: TakenTunnel | undefined): void {
    if (!tunnel || this.#isOver) {
      if (tunnel) {
        discard(tunnel);
      }
      this.#giveUp();
      return;
    }
    this.#tunnel = tunnel;
    this.#hooks.onTaken?.();
    tunnel.attach(this.#handlers);
    this.#flush();
  }

  readonly #handlers: TunnelHandlers = {
    onControl: () => undefined,
    // Whatever the program answers is nobody's.
    onData: () => undefined,
    onEnd: () => undefined,
    onDrain: () => this.#flush(),
    onClose: () => this.#giveUp(),
  };

  #flush(): void {
    this.#isBlocked = false;
    while (!this.#isBlocked) {
      const chunk = this.#queue.shift();
      if (!chunk) {
        break;
      }
      this.#lagBytes -= chunk.length;
      this.#isBlocked = !this.#tunnel?.stream.sendData(chunk);
    }
    this.#finishWhenSent();
  }

  #finishWhenSent(): void {
    const stream = this.#tunnel?.stream;
    if (this.#isEnded && !this.#isOver && !this.#linger && stream && this.#queue.length === 0) {
      stream.endSend();
      this.#linger = this.#deps.clock.after(lingerMs, () => this.#giveUp());
      this.#hooks.onSaid?.();
    }
  }

  #giveUp(): void {
    if (this.#isOver) {
      return;
    }
    this.#isOver = true;
    void this.#linger?.dispose();
    this.#queue = new Queue();
    this.#lagBytes = 0;
    this.#tunnel?.stream.reset();
    this.#hooks.onOver?.();
  }
}
