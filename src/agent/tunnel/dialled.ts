import { tunnelCode } from '../../protocol/index.ts';
import type { TunnelHandlers, TunnelStream } from '../../protocol/transport/index.ts';

/** A tunnel whose far end has dialled: the developer's program listens. */
export interface TakenTunnel {
  readonly stream: TunnelStream;
  /** Delivers what has come and what comes. Once. */
  attach(handlers: TunnelHandlers): void;
}

/** A dial on its way. Undefined: refused, gone or too late; nothing remains of it then. */
export interface PendingTunnel {
  readonly taken: Promise<TakenTunnel | undefined>;
  /** Gives it up, unless it is taken. */
  cancel(): void;
  /** Where what the caller says may go along with the question. It is for nobody when the answer is no. */
  readonly stream?: TunnelStream;
}

/** The first outcome counts: what went to the application must not go to the developer as well. */
export class Outcome {
  readonly #outcome = Promise.withResolvers<TakenTunnel | undefined>();
  readonly #onSettled: () => void;
  #isSettled = false;

  /** `onSettled` runs before whoever waits is told. */
  constructor(onSettled: () => void) {
    this.#onSettled = onSettled;
  }

  get taken(): Promise<TakenTunnel | undefined> {
    return this.#outcome.promise;
  }

  /** False when there is an outcome already. */
  settle(tunnel: TakenTunnel | undefined): boolean {
    if (this.#isSettled) {
      return false;
    }
    this.#isSettled = true;
    this.#onSettled();
    this.#outcome.resolve(tunnel);
    return true;
  }
}

/**
 * The handlers of a stream on whose other side somebody dials. What comes between the answer and `attach` is kept:
 * payload may stand right behind the DialOK.
 */
export class DialledTunnel implements TakenTunnel {
  readonly stream: TunnelStream;
  readonly #outcome: Outcome;
  readonly #early: ((handlers: TunnelHandlers) => void)[] = [];
  #handlers: TunnelHandlers | undefined;
  #isTaken = false;

  constructor(stream: TunnelStream, outcome: Outcome) {
    this.stream = stream;
    this.#outcome = outcome;
  }

  get isTaken(): boolean {
    return this.#isTaken;
  }

  attach(handlers: TunnelHandlers): void {
    this.#handlers = handlers;
    for (const replay of this.#early.splice(0)) {
      replay(handlers);
    }
    this.stream.resume();
  }

  readonly handlers: TunnelHandlers = {
    onControl: (code, body) => {
      if (this.#isTaken) {
        this.#deliver((handlers) => handlers.onControl(code, body));
      } else if (code === tunnelCode.dialOk) {
        this.#take();
      } else if (code === tunnelCode.dialReject || code === tunnelCode.disconnect) {
        this.stream.finish();
        this.#outcome.settle(undefined);
      }
    },
    onData: (slice, last) => {
      // Some peers speak before they say that they have dialled.
      if (this.#isTaken || this.#take()) {
        this.#deliver((handlers) => handlers.onData(slice, last));
      }
    },
    onEnd: () => (this.#isTaken ? this.#deliver((handlers) => handlers.onEnd()) : this.#refuse()),
    onDrain: () => this.#handlers?.onDrain(),
    onClose: (error) => (this.#isTaken ? this.#deliver((handlers) => handlers.onClose(error)) : this.#refuse()),
  };

  #refuse(): void {
    this.#outcome.settle(undefined);
  }

  #take(): boolean {
    this.#isTaken = this.#outcome.settle(this);
    if (!this.#isTaken) {
      this.stream.reset();
    } else if (!this.#handlers) {
      this.stream.pause();
    }
    return this.#isTaken;
  }

  #deliver(event: (handlers: TunnelHandlers) => void): void {
    if (this.#handlers) {
      event(this.#handlers);
    } else {
      this.#early.push(event);
    }
  }
}
