/** What a cache may hold: when it was true, until when it counts, and how much room it takes. */
export interface Perishable {
  readonly atMs: number;
  readonly untilMs: number;
  readonly sizeBytes: number;
}

export interface CacheLimits {
  readonly maxEntries: number;
  readonly maxBytes: number;
}

/** Counted per entry beside its own bytes: key, map slot, objects. An estimate; it keeps empty answers from being free. */
const overheadBytes = 200;

/** Answers by question; what was not asked for the longest time goes first. */
export class AnswerCache<V extends Perishable> {
  readonly #limits: CacheLimits;
  readonly #entries = new Map<string, V>();
  #bytes = 0;

  constructor(limits: CacheLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string, nowMs: number): V | undefined {
    const entry = this.#entries.get(key);
    if (!entry) {
      return undefined;
    }
    if (entry.untilMs <= nowMs) {
      this.#remove(key, entry);
      return undefined;
    }
    // A map keeps the order of insertion: the newest is last.
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  /** An answer that is over already is not kept. */
  set(key: string, entry: V, nowMs: number): void {
    const old = this.#entries.get(key);
    if (old) {
      this.#remove(key, old);
    }
    if (entry.untilMs <= nowMs || entry.sizeBytes + overheadBytes > this.#limits.maxBytes) {
      return;
    }
    this.#entries.set(key, entry);
    this.#bytes += entry.sizeBytes + overheadBytes;
    for (const [oldestKey, oldest] of this.#entries) {
      if (this.#entries.size <= this.#limits.maxEntries && this.#bytes <= this.#limits.maxBytes) {
        break;
      }
      this.#remove(oldestKey, oldest);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  #remove(key: string, entry: V): void {
    this.#entries.delete(key);
    this.#bytes -= entry.sizeBytes + overheadBytes;
  }
}
