import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { mutate, Random } from './random.ts';
import type { Target } from './target.ts';

/** Longer for one input is a hang. Generous: a busy machine must not be a finding. */
const hangMs = 10_000;
const settleEvery = 5_000;
const warmSettlings = 40;
const maxCorpus = 400;
const keptInputs = 50;
/** What the heap may grow by between two settlings once it is warm. */
const leakBytes = 32 * 1024 * 1024;

export interface LoopResult {
  readonly inputs: number;
  readonly longestMs: number;
  readonly heapGrowthBytes: number;
}

/** What broke a rule: the error, and the last inputs, the guilty one last. */
export class Finding extends Error {
  readonly inputs: readonly Uint8Array[];

  constructor(cause: unknown, inputs: readonly Uint8Array[]) {
    super(`input ${Buffer.from(inputs.at(-1) ?? []).toString('hex')}`, { cause });
    this.inputs = inputs;
  }
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Feeds a target until `isOver`. The same seed gives the same inputs. Throws a `Finding`. */
export async function feed(target: Target, seed: number, isOver: (inputs: number) => boolean): Promise<LoopResult> {
  const random = new Random(seed);
  const corpus = [...target.seeds];
  const recent: Uint8Array[] = [];
  let inputs = 0;
  let longestMs = 0;
  let warmHeap = 0;
  let settled = 0;
  let heap = 0;
  const settle = async (): Promise<void> => {
    await target.settle();
    collect();
    heap = process.memoryUsage().heapUsed;
    // Caches with a limit fill first.
    if (++settled <= warmSettlings) {
      warmHeap = Math.max(warmHeap, heap);
    }
    if (heap - warmHeap > leakBytes) {
      throw new RangeError(`the heap has grown by ${Math.round((heap - warmHeap) / 1e6)} MB`);
    }
  };
  try {
    while (!isOver(inputs)) {
      const input = random.once(40)
        ? random.bytes(random.below(120))
        : mutate(random.pick(corpus), random.pick(corpus), random);
      recent.push(input);
      recent.splice(0, recent.length - keptInputs);
      const started = performance.now();
      await target.run(input, random);
      const took = performance.now() - started;
      longestMs = Math.max(longestMs, took);
      if (took > hangMs) {
        throw new RangeError(`took ${took.toFixed(0)} ms`);
      }
      // Mutations of mutations reach further; the beginning is kept.
      if (random.once(200)) {
        corpus[
          corpus.length < maxCorpus
            ? corpus.length
            : target.seeds.length + random.below(maxCorpus - target.seeds.length)
        ] = input.slice(0, 2_000);
      }
      inputs++;
      if (inputs % settleEvery === 0) {
        await settle();
      }
    }
    await settle();
  } catch (error) {
    throw new Finding(error, recent);
  }
  return { inputs, longestMs, heapGrowthBytes: heap - warmHeap };
}
