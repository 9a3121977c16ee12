import type { Event } from '../../base/index.ts';

/**
 * A snapshot at once, and another whenever something changed and the snapshot differs. Changes that come while the
 * reader is busy are joined into one, so a slow reader costs nothing.
 */
export async function* watchSnapshots<T>(
  onChanged: Event<void>,
  signal: AbortSignal,
  snapshot: () => T,
  /** Two snapshots with one fingerprint are the same. */
  fingerprint: (value: T) => string,
): AsyncGenerator<T> {
  let wake: () => void = () => undefined;
  let isDirty = true;
  const subscription = onChanged(() => {
    isDirty = true;
    wake();
  });
  const abort = (): void => wake();
  signal.addEventListener('abort', abort, { once: true });
  let last: string | undefined;
  try {
    while (!signal.aborted) {
      if (!isDirty) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      isDirty = false;
      const value = snapshot();
      const print = fingerprint(value);
      if (print !== last) {
        last = print;
        yield value;
      }
    }
  } finally {
    void subscription.dispose();
    signal.removeEventListener('abort', abort);
  }
}
