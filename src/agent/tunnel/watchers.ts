import { Emitter } from '../../base/index.ts';
import type { wire } from '../../protocol/index.ts';

/** Dials that a client has not fetched yet. */
const maxWaiting = 1_000;

export type PushDial = (request: wire.DialRequest) => boolean;

/** The clients that listen for dials (Agent.WatchDial). The newest call of a session counts. */
export class DialWatchers {
  readonly #watchers = new Map<string, PushDial>();
  readonly #gone = new Emitter<PushDial>();
  /** A call has ended: what was asked by it and not fetched will not come. */
  readonly onWatcherGone = this.#gone.event;

  /** Answers false when the client has too many to fetch; undefined when it does not listen. */
  of(sessionId: string): PushDial | undefined {
    return this.#watchers.get(sessionId);
  }

  /** Lasts as long as the call. */
  async *watch(sessionId: string, signal: AbortSignal): AsyncGenerator<wire.DialRequest> {
    const queue: wire.DialRequest[] = [];
    let wake: () => void = () => undefined;
    const push: PushDial = (request) => {
      if (queue.length >= maxWaiting) {
        return false;
      }
      queue.push(request);
      wake();
      return true;
    };
    // With the signal and not with the loop: that may hang on a request that nobody reads any more.
    const leave = (): void => {
      if (this.#watchers.get(sessionId) === push) {
        this.#watchers.delete(sessionId);
      }
      this.#gone.fire(push);
    };
    const abort = (): void => {
      leave();
      wake();
    };
    signal.addEventListener('abort', abort, { once: true });
    this.#watchers.set(sessionId, push);
    try {
      while (!signal.aborted && this.#watchers.get(sessionId) === push) {
        const request = queue.shift();
        if (request) {
          yield request;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener('abort', abort);
      leave();
    }
  }
}
