import type { Clock, Disposable } from '../base/index.ts';

export interface QuietDeps {
  readonly clock: Clock;
  /** Milliseconds of CPU since the start. */
  readonly cpuMs: () => number;
  /** What the heap holds of the machine's memory, garbage included. */
  readonly heapBytes: () => number;
  readonly collect: () => void;
}

const lookMs = 10_000;
/** Leases and watches of a few hundred clients stay below; any traffic is above. */
const quietCpuMs = 300;
/** Live state is about 20 MB; a collection that gives back less is not worth its pause. */
const worthBytes = 48 * 1024 * 1024;

/**
 * Gives memory back after a busy time: left alone, the collector waits for more work before it looks again, and a pod
 * that carried traffic once keeps three times of what it needs.
 */
export function collectWhenQuiet({ clock, cpuMs, heapBytes, collect }: QuietDeps): Disposable {
  let before = cpuMs();
  return clock.every(lookMs, () => {
    const now = cpuMs();
    const isQuiet = now - before < quietCpuMs;
    before = now;
    if (isQuiet && heapBytes() > worthBytes) {
      collect();
    }
  });
}
