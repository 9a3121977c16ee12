import type { Clock } from './clock.ts';

/** A flood must not become a flood of lines. */
const periodMs = 10_000;

/** Lets one line through in a while: how often there would be something to say, strangers decide. */
export class Seldom {
  readonly #clock: Clock;
  #silentUntilMs = Number.NEGATIVE_INFINITY;
  #more = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How many were held back since the last one; undefined when this one is held back, too. */
  next(): number | undefined {
    const nowMs = this.#clock.nowMs();
    if (nowMs < this.#silentUntilMs) {
      this.#more++;
      return undefined;
    }
    const more = this.#more;
    this.#silentUntilMs = nowMs + periodMs;
    this.#more = 0;
    return more;
  }
}
