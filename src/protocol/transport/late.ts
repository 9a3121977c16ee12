import type { NearfieldError } from '../../base/index.ts';
import type { TunnelHandlers } from './stream.ts';

export interface LateHooks {
  /** Control messages that come before the far end is attached. */
  readonly onControl: (code: number, body: Uint8Array) => void;
  /** The stream closed before anything was attached. */
  readonly onClose?: (error?: NearfieldError) => void;
}

/**
 * Handlers for a stream whose far end is not known yet. What arrives meanwhile is kept and replayed by `attach`;
 * pause the stream to bound it. A chunk may carry payload right behind the message that decides, so pausing alone
 * would lose it.
 */
export class LateHandlers {
  readonly #hooks: LateHooks;
  readonly #early: ((handlers: TunnelHandlers) => void)[] = [];
  #attached: TunnelHandlers | undefined;

  constructor(hooks: LateHooks) {
    this.#hooks = hooks;
  }

  get isAttached(): boolean {
    return this.#attached !== undefined;
  }

  attach(handlers: TunnelHandlers): void {
    this.#attached = handlers;
    for (const replay of this.#early.splice(0)) {
      replay(handlers);
    }
  }

  readonly handlers: TunnelHandlers = {
    onControl: (code, body) =>
      this.#attached ? this.#attached.onControl(code, body) : this.#hooks.onControl(code, body),
    onData: (slice, last) => this.#deliver((handlers) => handlers.onData(slice, last)),
    onEnd: () => this.#deliver((handlers) => handlers.onEnd()),
    onDrain: () => this.#attached?.onDrain(),
    onClose: (error) => {
      if (!this.#attached) {
        this.#hooks.onClose?.(error);
      }
      this.#deliver((handlers) => handlers.onClose(error));
    },
  };

  #deliver(event: (handlers: TunnelHandlers) => void): void {
    if (this.#attached) {
      event(this.#attached);
    } else {
      this.#early.push(event);
    }
  }
}
