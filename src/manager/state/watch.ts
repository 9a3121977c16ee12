import { type Clock, Emitter, type Event } from '../../base/index.ts';

/**
 * A snapshot at once, and another whenever something changed and the snapshot differs. Changes that come while the
 * reader is busy are joined into one, so a slow reader costs nothing.
 */
export async function* watchSnapshots<T>(
  onChanged: Event<void>,
  signal: AbortSignal,
  snapshot: () => T,
  /** Two snapshots with one fingerprint are the same: an equal value, or a list of the very same objects. */
  fingerprint: (value: T) => unknown,
): AsyncGenerator<T> {
  let wake: () => void = () => undefined;
  let isDirty = true;
  const subscription = onChanged(() => {
    isDirty = true;
    wake();
  });
  const abort = (): void => wake();
  signal.addEventListener('abort', abort, { once: true });
  let last: unknown;
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
      if (!isSame(print, last)) {
        last = print;
        yield value;
      }
    }
  } finally {
    void subscription.dispose();
    signal.removeEventListener('abort', abort);
  }
}

/** Hundreds compare what they sent last with what is now: by identity, since printing it would cost more than sending. */
function isSame(one: unknown, other: unknown): boolean {
  return Array.isArray(one) && Array.isArray(other)
    ? one.length === other.length && one.every((each, index) => each === other[index])
    : one === other;
}

/**
 * The same event, at most once a period: the first at once, and what comes while it rests as one at its end. Each costs
 * as much as there are watchers, and a rollout makes thousands.
 */
export function gather(event: Event<void>, clock: Clock, periodMs: number): Event<void> {
  const gathered = new Emitter<void>();
  let isResting = false;
  let isOwed = false;
  const fire = (): void => {
    isResting = true;
    isOwed = false;
    clock.after(periodMs, () => {
      isResting = false;
      if (isOwed) {
        fire();
      }
    });
    gathered.fire();
  };
  event(() => {
    if (isResting) {
      isOwed = true;
    } else {
      fire();
    }
  });
  return gathered.event;
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
