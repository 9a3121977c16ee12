import type { Clock, Disposable } from '../../../src/base/index.ts';

interface Timer {
  at: number;
  readonly periodMs: number | undefined;
  readonly callback: () => void;
}

/** Time that stands still until it is moved by hand. */
export class HandClock implements Clock {
  #now = 0;
  readonly #timers = new Set<Timer>();

  nowMs(): number {
    return this.#now;
  }

  wallMs(): number {
    return Date.UTC(2030, 0, 1) + this.#now;
  }

  after(delayMs: number, callback: () => void): Disposable {
    return this.#add({ at: this.#now + delayMs, periodMs: undefined, callback });
  }

  every(periodMs: number, callback: () => void): Disposable {
    return this.#add({ at: this.#now + periodMs, periodMs, callback });
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Fires what falls due, in order; what it starts in turn falls due as well. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const [next] = [...this.#timers].filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at);
      if (!next) {
        break;
      }
      this.#now = next.at;
      if (next.periodMs === undefined) {
        this.#timers.delete(next);
      } else {
        next.at += next.periodMs;
      }
      next.callback();
    }
    this.#now = end;
  }

  #add(timer: Timer): Disposable {
    this.#timers.add(timer);
    return { dispose: () => void this.#timers.delete(timer) };
  }
}

/** Lets everything that is already decided happen. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
