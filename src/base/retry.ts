import { type Clock, sleep } from './clock.ts';

export interface Backoff {
  readonly firstMs: number;
  readonly factor: number;
  readonly maxMs: number;
}

export const defaultBackoff: Backoff = { firstMs: 100, factor: 2, maxMs: 5_000 };

/** The wait before attempt number `attempt` (0 = the first retry), with up to half of it as jitter. */
export function backoffMs(backoff: Backoff, attempt: number, random: () => number = Math.random): number {
  const full = Math.min(backoff.maxMs, backoff.firstMs * backoff.factor ** attempt);
  return full / 2 + (full / 2) * random();
}

export interface RetryOptions {
  readonly clock: Clock;
  readonly signal?: AbortSignal;
  readonly backoff?: Backoff;
  /** Attempts in all; unlimited when absent. */
  readonly attempts?: number;
  /** False ends the retrying with the error at hand. */
  readonly isRetryable?: (error: unknown) => boolean;
  readonly onRetry?: (error: unknown, attempt: number) => void;
}

/** Calls `work` until it succeeds, the attempts are used up, or the signal fires. */
export async function retry<T>(work: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await work(attempt);
    } catch (error) {
      const last = options.attempts !== undefined && attempt + 1 >= options.attempts;
      if (last || options.signal?.aborted || options.isRetryable?.(error) === false) {
        throw error;
      }
      options.onRetry?.(error, attempt);
      await sleep(options.clock, backoffMs(options.backoff ?? defaultBackoff, attempt), options.signal);
    }
  }
}
