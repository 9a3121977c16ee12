import type { Clock, Disposable } from '../../base/index.ts';

const periodMs = 1_000;
/** A busy machine is late by less. */
const lateMs = 5_000;

export interface WakeOptions {
  readonly clock: Clock;
  /** Time since the machine's start that also passes while it sleeps: CLOCK_BOOTTIME, `os.uptime()`. */
  readonly bootMs: () => number;
}

/**
 * Calls back when the machine has slept, with for how long. The wall clock would not do, as people and NTP set it, nor
 * would the steady one, which on Linux stands still in sleep. A process that was stopped for as long looks the same, and
 * wants the same: it has missed what happened meanwhile.
 */
export function watchWake({ clock, bootMs }: WakeOptions, woke: (sleptMs: number) => void): Disposable {
  let last = bootMs();
  return clock.every(periodMs, () => {
    const now = bootMs();
    const sleptMs = now - last - periodMs;
    last = now;
    if (sleptMs > lateMs) {
      woke(sleptMs);
    }
  });
}
