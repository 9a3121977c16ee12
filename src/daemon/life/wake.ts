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
 * Calls back when the machine has slept, with for how long. The steady clock would not do: on Linux it stands still in
 * sleep. In a virtual machine whose host has slept every clock has stood still, until somebody sets the wall clock: a
 * leap of that counts as well. Where a person has set it, or where this process was stopped for as long, it is only
 * looked anew at what may have changed.
 */
export function watchWake({ clock, bootMs }: WakeOptions, woke: (sleptMs: number) => void): Disposable {
  let before = { bootMs: bootMs(), wallMs: clock.wallMs() };
  return clock.every(periodMs, () => {
    const now = { bootMs: bootMs(), wallMs: clock.wallMs() };
    const sleptMs = Math.max(now.bootMs - before.bootMs, now.wallMs - before.wallMs) - periodMs;
    before = now;
    if (sleptMs > lateMs) {
      woke(sleptMs);
    }
  });
}
