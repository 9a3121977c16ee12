import type { Clock } from './clock.ts';
import type { Disposable } from './event.ts';

export interface MemoryDeps {
  readonly clock: Clock;
  /** Milliseconds of CPU since the start. */
  readonly cpuMs: () => number;
  /** What is held of the machine's memory, garbage included. */
  readonly heldBytes: () => number;
  /** Of less a collection is not worth its pause. */
  readonly worthBytes: number;
  /** Whether the limit is near. Then what a pause costs callers is less than what the end would. */
  readonly isTight: () => boolean;
  /** Thoroughly when nobody waits, or the limit is near. */
  readonly collect: (isThorough: boolean) => void;
}

const lookMs = 10_000;
/** While there is traffic a pause costs callers a moment: one a minute is not felt. */
const busyMs = 60_000;
/** Leases and watches of a few hundred clients stay below; any traffic is above. */
const quietCpuMs = 300;
/** So much more than what the last collection left has to be there for another one. */
const growth = 1.1;

/**
 * Gives memory back, after a busy time at once and within one seldom: left alone, the collector waits for more work before
 * it looks again, and a pod that carried traffic once keeps three times of what it needs.
 */
export function giveMemoryBack({ clock, cpuMs, heldBytes, worthBytes, isTight, collect }: MemoryDeps): Disposable {
  let before = cpuMs();
  let worth = worthBytes;
  let lastMs = clock.nowMs();
  return clock.every(lookMs, () => {
    const now = cpuMs();
    const isQuiet = now - before < quietCpuMs;
    before = now;
    const isTime = isQuiet || clock.nowMs() - lastMs >= busyMs;
    const mustBe = isTime && !isQuiet && isTight();
    if (isTime && (mustBe || heldBytes() > worth)) {
      lastMs = clock.nowMs();
      collect(isQuiet || mustBe);
      worth = Math.max(worthBytes, heldBytes() * growth);
    }
  });
}
