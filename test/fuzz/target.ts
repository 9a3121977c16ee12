import type { Random } from './random.ts';

/** Something that reads bytes of strangers. */
export interface Target {
  readonly seeds: readonly Uint8Array[];
  /** How long an input may take, where that is also for others to say: sockets on a busy machine. */
  readonly hangMs?: number;
  /** Throws when the input broke a rule. `random` is for what happens beside it. */
  run(input: Uint8Array, random: Random): void | Promise<void>;
  /** Throws when the inputs so far have left something behind. Called now and then, and at the end. */
  settle(): void | Promise<void>;
  close(): void | Promise<void>;
}

export type OpenTarget = () => Target | Promise<Target>;
