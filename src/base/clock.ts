import { NearfieldError } from './error.ts';
import type { Disposable } from './event.ts';

/** The only thing that knows real time. Tests pass a clock they advance by hand. */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  nowMs(): number;
  /** Wall time, milliseconds since 1970. */
  wallMs(): number;
  /** Calls back once. */
  after(delayMs: number, callback: () => void): Disposable;
  /** Calls back again and again until disposed. */
  every(periodMs: number, callback: () => void): Disposable;
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return { dispose: () => clearTimeout(timer) };
  },
  every(periodMs, callback) {
    const timer = setInterval(callback, periodMs);
    return { dispose: () => clearInterval(timer) };
  },
};

/** Waits; rejects with code `cancelled` when the signal fires first. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(cancelled(signal));
      return;
    }
    const abort = (): void => {
      void timer.dispose();
      reject(cancelled(signal));
    };
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    });
    signal?.addEventListener('abort', abort, { once: true });
  });
}

/**
 * Gives `work` a signal that fires after `limitMs` or with `signal`, and settles no later than that, even when
 * the work ignores the signal. Errors: `deadline_exceeded` with reason `base.timeout`; `cancelled`.
 */
export function withTimeout<T>(
  clock: Clock,
  limitMs: number,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const controller = new AbortController();
  return new Promise<T>((resolve, reject) => {
    const end = (): void => {
      void timer.dispose();
      signal?.removeEventListener('abort', abort);
    };
    const fail = (error: unknown): void => {
      end();
      controller.abort(error);
      reject(error);
    };
    const abort = (): void => fail(cancelled(signal));
    const timer = clock.after(limitMs, () => fail(timedOut(what, limitMs)));
    if (signal?.aborted) {
      abort();
      return;
    }
    signal?.addEventListener('abort', abort, { once: true });
    work(controller.signal).then((value) => {
      end();
      resolve(value);
    }, fail);
  });
}

export function timedOut(what: string, limitMs: number): NearfieldError {
  return new NearfieldError(`${what} took longer than ${Math.round(limitMs / 100) / 10} s`, {
    code: 'deadline_exceeded',
    reason: 'base.timeout',
  });
}

export function cancelled(signal?: AbortSignal): NearfieldError {
  return new NearfieldError('cancelled', { code: 'cancelled', reason: 'base.cancelled', cause: signal?.reason });
}
