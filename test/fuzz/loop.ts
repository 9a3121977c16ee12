import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Coverage } from './coverage.ts';
import { Finding, type Step } from './finding.ts';
import { mutate, Random } from './random.ts';
import type { Target } from './target.ts';

/** Longer for one input, and for each repetition of it, is a hang. */
const hangMs = 100;
/** By the clock it is a hang after this only: a busy machine lets anybody wait. */
const hangWallMs = 5_000;
const repetitions = 4;
const settleEvery = 5_000;
const warmSettlings = 40;
const maxCorpus = 400;
/** What the heap may grow by between two settlings once it is warm. */
const leakBytes = 32 * 1024 * 1024;
const maxInputBytes = 2_000;
/** Looking at the counters costs as much as some dozen inputs. */
const batchInputs = 64;
const seedLimit = 0xffffffff;

export interface LoopResult {
  readonly inputs: number;
  readonly longestMs: number;
  readonly heapGrowthBytes: number;
  /** Inputs worth changing further. */
  readonly corpus: number;
}

export interface LoopOptions {
  readonly seed: number;
  readonly isOver: (inputs: number) => boolean;
  /** Keeps what reaches new code; without it, one of each batch. */
  readonly coverage?: Coverage;
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Feeds a target until `isOver`. The same seed gives the same inputs, unless coverage guides. Throws a `Finding`. */
export async function feed(target: Target, options: LoopOptions): Promise<LoopResult> {
  return new Loop(target, options).run();
}

class Loop {
  readonly #target: Target;
  readonly #options: LoopOptions;
  readonly #random: Random;
  readonly #corpus: Step[];
  readonly #seeds: number;
  /** Since everything was settled last. */
  #steps: Step[] = [];
  #inputs = 0;
  #longestMs = 0;
  #settled = 0;
  #warmHeap = 0;
  #heap = 0;

  constructor(target: Target, options: LoopOptions) {
    this.#target = target;
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#corpus = target.seeds.map((input) => ({ input, seed: 1 }));
    this.#seeds = this.#corpus.length;
  }

  async run(): Promise<LoopResult> {
    const { isOver } = this.#options;
    let batch: Step[] = [];
    try {
      while (!isOver(this.#inputs)) {
        const step = this.#next();
        await this.#run(step);
        batch.push(step);
        if (batch.length >= batchInputs) {
          await this.#keepUseful(batch);
          batch = [];
        }
        if (this.#steps.length >= settleEvery) {
          await this.#settle();
        }
      }
      await this.#settle();
    } catch (error) {
      throw new Finding(error, this.#steps);
    }
    const heapGrowthBytes = this.#heap - this.#warmHeap;
    return { inputs: this.#inputs, longestMs: this.#longestMs, heapGrowthBytes, corpus: this.#corpus.length };
  }

  /** Mutations of mutations reach further than those of the seeds. */
  #next(): Step {
    const random = this.#random;
    const from = random.pick(this.#corpus);
    const input = random.once(40)
      ? random.bytes(random.below(120))
      : mutate(from.input, random.pick(this.#corpus).input, random);
    return { input, seed: random.once(3) ? from.seed : random.below(seedLimit) };
  }

  async #run(step: Step): Promise<void> {
    this.#steps.push(step);
    this.#inputs++;
    let took = await this.#time(step);
    this.#longestMs = Math.max(this.#longestMs, took);
    const limitMs = this.#target.hangMs ?? hangMs;
    for (let again = 1; again < repetitions && took > limitMs; again++) {
      this.#steps.push(step);
      took = Math.min(took, await this.#time(step));
    }
    if (took > limitMs) {
      throw new RangeError(`took ${took.toFixed(0)} ms each time`);
    }
  }

  async #time({ input, seed }: Step): Promise<number> {
    const started = performance.now();
    const before = process.cpuUsage();
    await this.#target.run(input, new Random(seed));
    const wallMs = performance.now() - started;
    const { user, system } = process.cpuUsage(before);
    // Below the limit of either, the smaller: what this process did, and not what it waited for.
    return wallMs > hangWallMs ? wallMs : Math.min(wallMs, (user + system) / 1_000);
  }

  /** Which of a batch it was that reached new code shows when each is run once more. */
  async #keepUseful(batch: readonly Step[]): Promise<void> {
    const { coverage } = this.#options;
    if (!coverage) {
      this.#keep(this.#random.pick(batch));
      return;
    }
    const places = coverage.take();
    if (places.length === 0) {
      return;
    }
    let kept = 0;
    for (const step of batch) {
      await this.#run(step);
      coverage.take();
      if (coverage.reached(places)) {
        this.#keep(step);
        kept++;
      }
    }
    if (kept === 0) {
      // It depended on what was before.
      this.#keep(this.#random.pick(batch));
    }
  }

  /** The seeds are never given up. */
  #keep({ input, seed }: Step): void {
    const at =
      this.#corpus.length < maxCorpus ? this.#corpus.length : this.#seeds + this.#random.below(maxCorpus - this.#seeds);
    this.#corpus[at] = { input: input.slice(0, maxInputBytes), seed };
  }

  async #settle(): Promise<void> {
    await this.#target.settle();
    this.#steps = [];
    collect();
    this.#heap = process.memoryUsage().heapUsed;
    // Caches with a limit fill first.
    if (++this.#settled <= warmSettlings) {
      this.#warmHeap = Math.max(this.#warmHeap, this.#heap);
    }
    if (this.#heap - this.#warmHeap > leakBytes) {
      throw new RangeError(`the heap has grown by ${Math.round((this.#heap - this.#warmHeap) / 1e6)} MB`);
    }
  }
}
