import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Random } from './random.ts';
import type { OpenTarget, Target } from './target.ts';

/** One input, and the seed of what happened beside it: the same step does the same again. */
export interface Step {
  readonly input: Uint8Array;
  readonly seed: number;
}

/** What broke a rule: the error, and the steps since nothing was left of the ones before, the guilty one last. */
export class Finding extends Error {
  readonly steps: readonly Step[];

  constructor(cause: unknown, steps: readonly Step[]) {
    super(
      `after ${steps.length} steps, the last ${formatStep(steps.at(-1) ?? { input: new Uint8Array(0), seed: 0 })}`,
      {
        cause,
      },
    );
    this.steps = steps;
  }
}

const formatStep = ({ input, seed }: Step): string => `${seed} ${Buffer.from(input).toString('hex')}`;

/** One step a line: the seed, and the input in hexadecimal. */
export function parseSteps(text: string): Step[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [seed = '', hex = ''] = line.split(' ');
      return { seed: Number(seed), input: Buffer.from(hex, 'hex') };
    });
}

export async function saveFinding(folder: string, name: string, steps: readonly Step[]): Promise<string> {
  await mkdir(folder, { recursive: true });
  const file = join(folder, `${name}.txt`);
  await writeFile(file, steps.map((step) => `${formatStep(step)}\n`).join(''));
  return file;
}

export async function replay(target: Target, steps: readonly Step[]): Promise<void> {
  for (const { input, seed } of steps) {
    await target.run(input, new Random(seed));
  }
  await target.settle();
}

/** Fewer and shorter steps that still break a rule; the given ones when they break none again. Takes `limitMs` at most. */
export async function minimise(open: OpenTarget, steps: readonly Step[], limitMs: number): Promise<readonly Step[]> {
  const started = performance.now();
  const breaks = async (some: readonly Step[]): Promise<boolean> => {
    if (performance.now() - started > limitMs) {
      return false;
    }
    const target = await open();
    try {
      await replay(target, some);
      return false;
    } catch {
      return true;
    } finally {
      await target.close();
    }
  };
  if (!(await breaks(steps))) {
    return steps;
  }
  const fewer = await shorten(steps, breaks);
  const result = [...fewer];
  for (const [index, { input, seed }] of fewer.entries()) {
    const bytes = await shorten([...input], (some) =>
      breaks(result.with(index, { seed, input: Uint8Array.from(some) })),
    );
    result[index] = { seed, input: Uint8Array.from(bytes) };
  }
  return result;
}

/** Leaves out part after part, halves first, as long as the rest is still `good`. */
async function shorten<T>(all: readonly T[], good: (some: readonly T[]) => Promise<boolean>): Promise<readonly T[]> {
  let kept = all;
  for (let size = Math.ceil(all.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < kept.length; ) {
      const rest = [...kept.slice(0, at), ...kept.slice(at + size)];
      if (await good(rest)) {
        kept = rest;
      } else {
        at += size;
      }
    }
  }
  return kept;
}
