import type { Clock } from '../../base/index.ts';
import { tooManyReviews } from '../errors.ts';

export interface CacheLimits {
  readonly maxKept: number;
  /** Questions under way at the API server; beyond them a caller hears that we are busy. */
  readonly maxAsked: number;
}

/** Answers of the API server, kept for a short time. The same question, asked while it is under way, is asked once. */
export class AnswerCache<T> {
  readonly #clock: Clock;
  readonly #limits: CacheLimits;
  readonly #kept = new Map<string, { readonly value: T; readonly untilMs: number }>();
  readonly #asked = new Map<string, Promise<T>>();

  constructor(clock: Clock, limits: CacheLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** What fails is not kept. Errors: `manager.busy`, those of `ask`. */
  async get(key: string, ask: () => Promise<{ readonly value: T; readonly keepMs: number }>): Promise<T> {
    const kept = this.#kept.get(key);
    if (kept && kept.untilMs > this.#clock.nowMs()) {
      return kept.value;
    }
    const running = this.#asked.get(key);
    if (running) {
      return running;
    }
    if (this.#asked.size >= this.#limits.maxAsked) {
      throw tooManyReviews();
    }
    const answer = ask().then(({ value, keepMs }) => {
      this.#keep(key, value, keepMs);
      return value;
    });
    this.#asked.set(key, answer);
    try {
      return await answer;
    } finally {
      this.#asked.delete(key);
    }
  }

  #keep(key: string, value: T, keepMs: number): void {
    this.#kept.delete(key);
    const [oldest] = this.#kept.keys();
    if (oldest !== undefined && this.#kept.size >= this.#limits.maxKept) {
      this.#kept.delete(oldest);
    }
    this.#kept.set(key, { value, untilMs: this.#clock.nowMs() + keepMs });
  }
}
