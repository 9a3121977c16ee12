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

/** What a watch is about at one moment, by key: `version` is another one whenever the thing is. */
export type Items<T> = ReadonlyMap<string, { readonly version: unknown; readonly value: () => T }>;

export interface Delta<T> {
  readonly upserts: Record<string, T>;
  readonly removals: string[];
}

/** Each call answers what has changed since the one before; the first one everything, even if it is nothing. */
export function deltasOf<T>(items: () => Items<T>): () => Delta<T> | undefined {
  let known: ReadonlyMap<string, unknown> | undefined;
  return () => {
    const present = items();
    const changed = [...present].filter(([key, { version }]) => !known?.has(key) || known.get(key) !== version);
    const removals = [...(known?.keys() ?? [])].filter((key) => !present.has(key));
    const isFirst = known === undefined;
    known = new Map([...present].map(([key, { version }]) => [key, version]));
    return isFirst || changed.length > 0 || removals.length > 0
      ? { upserts: Object.fromEntries(changed.map(([key, { value }]) => [key, value()])), removals }
      : undefined;
  };
}

/** The changes themselves, one after the other; those that come while the reader is busy are joined. */
export async function* watchDeltas<T>(
  onChanged: Event<void>,
  signal: AbortSignal,
  next: () => T | undefined,
): AsyncGenerator<T> {
  let count = 0;
  for await (const delta of watchSnapshots(onChanged, signal, next, () => String(count++))) {
    if (delta !== undefined) {
      yield delta;
    }
  }
}
