import { type Clock, type Disposable, Emitter, type Event } from '../../base/index.ts';

/**
 * What ends a watch: any of these. `AbortSignal.any` says the same, and holds 1.2 KB for each of the four thousand watches
 * that three hundred clients have (Node 24.21).
 */
export type Limits = AbortSignal | readonly AbortSignal[];

const listOf = (limits: Limits): readonly AbortSignal[] => (limits instanceof AbortSignal ? [limits] : limits);

export const isOver = (limits: Limits): boolean => listOf(limits).some(({ aborted }) => aborted);

/** Calls the listener at the end of any of them, at least once; `dispose` takes it back. */
export function whenOver(limits: Limits, listener: () => void): Disposable {
  const signals = listOf(limits);
  for (const signal of signals) {
    signal.addEventListener('abort', listener, { once: true });
  }
  return {
    dispose: () => {
      for (const signal of signals) {
        signal.removeEventListener('abort', listener);
      }
    },
  };
}

/**
 * A snapshot at once, and another whenever something changed and the snapshot differs. Changes that come while the
 * reader is busy are joined into one, so a slow reader costs nothing.
 */
export async function* watchSnapshots<T>(
  onChanged: Event<void>,
  limits: Limits,
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
  const ending = whenOver(limits, () => wake());
  let last: unknown;
  try {
    while (!isOver(limits)) {
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
    void ending.dispose();
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
  limits: Limits,
  next: () => T | undefined,
): AsyncGenerator<T> {
  let count = 0;
  for await (const delta of watchSnapshots(onChanged, limits, next, () => String(count++))) {
    if (delta !== undefined) {
      yield delta;
    }
  }
}
