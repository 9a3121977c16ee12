import { type Profiler, Session } from 'node:inspector';

/** A function of ours by file and place, and the first character of a part of it that had not run before. */
export interface Place {
  readonly key: string;
  readonly at: number;
}

/**
 * Which code has run, by V8's own block counters: what reaches new code is worth changing further. Of each function
 * there is a map of its characters. No library: those that instrument do not read TypeScript without a build.
 */
export class Coverage {
  readonly #session = new Session();
  readonly #seen = new Map<string, Uint8Array>();
  #last = new Map<string, Uint8Array>();
  #covered = 0;
  #known = 0;

  constructor() {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Characters of our source that have run. */
  get covered(): number {
    return this.#covered;
  }

  /** Characters of those functions that have run at all. */
  get known(): number {
    return this.#known;
  }

  /** Places that have run since the last call and never before. */
  take(): readonly Place[] {
    const places: Place[] = [];
    this.#last = new Map();
    for (const { url, functions } of this.#collect()) {
      for (const { ranges } of url.includes('/src/') ? functions : []) {
        const [whole] = ranges;
        if (whole && whole.count > 0) {
          const key = `${url}:${whole.startOffset}`;
          const ran = charactersOf(ranges);
          this.#last.set(key, ran);
          this.#merge(key, ran, places);
        }
      }
    }
    return places;
  }

  /** Whether what was taken last had run through one of the places. */
  reached(places: readonly Place[]): boolean {
    return places.some(({ key, at }) => this.#last.get(key)?.[at] === 1);
  }

  stop(): void {
    this.#session.disconnect();
  }

  #merge(key: string, ran: Uint8Array, places: Place[]): void {
    const seen = this.#seen.get(key) ?? new Uint8Array(ran.length);
    if (!this.#seen.has(key)) {
      this.#seen.set(key, seen);
      this.#known += ran.length;
    }
    let isNew = false;
    for (let at = 0; at < ran.length; at++) {
      const wasNew = isNew;
      isNew = ran[at] === 1 && seen[at] === 0;
      if (isNew) {
        seen[at] = 1;
        this.#covered++;
        if (!wasNew) {
          places.push({ key, at });
        }
      }
    }
  }

  #collect(): readonly Profiler.ScriptCoverage[] {
    let result: readonly Profiler.ScriptCoverage[] = [];
    // Within one thread the inspector answers before `post` returns.
    this.#session.post('Profiler.takePreciseCoverage', (_error, taken) => {
      result = taken?.result ?? [];
    });
    return result;
  }
}

/** 1 for a character that has run. Ranges come outer first; an inner one with its own count overrides. */
function charactersOf(ranges: readonly Profiler.CoverageRange[]): Uint8Array {
  const [{ startOffset: from, endOffset: to } = { startOffset: 0, endOffset: 0 }] = ranges;
  const ran = new Uint8Array(to - from);
  for (const { startOffset, endOffset, count } of ranges) {
    ran.fill(count > 0 ? 1 : 0, startOffset - from, endOffset - from);
  }
  return ran;
}
