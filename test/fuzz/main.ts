/**
 * `npm run fuzz -- --target nat --minutes 10 --seed 1`: random input of the right form for what reads bytes of
 * strangers. What reaches code that had not run before is changed further, unless `--blind`.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { toError } from '../../src/base/index.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { Coverage } from './coverage.ts';
import { Finding, minimise, saveFinding } from './finding.ts';
import { feed } from './loop.ts';
import type { OpenTarget } from './target.ts';
import { targets } from './targets/index.ts';

const reportMs = 60_000;
const minimiseMs = 60_000;

const { values } = parseArgs({
  options: {
    target: { type: 'string', multiple: true },
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    blind: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const limitMs = Number(values.minutes) * 60_000;

async function fuzz(name: string, open: OpenTarget): Promise<void> {
  const coverage = values.blind ? undefined : new Coverage();
  const target = await open();
  const started = performance.now();
  let reportedMs = started;
  const isOver = (inputs: number): boolean => {
    const now = performance.now();
    if (now - reportedMs > reportMs) {
      reportedMs = now;
      console.log(`… ${name}: ${inputs} inputs${describe(coverage)}`);
    }
    return now - started > limitMs;
  };
  try {
    const result = await feed(target, { seed, isOver, ...(coverage ? { coverage } : {}) });
    const { inputs, longestMs, heapGrowthBytes, corpus } = result;
    const seconds = (performance.now() - started) / 1000;
    console.log(
      `${name}: seed ${seed}, ${(seconds / 60).toFixed(1)} minutes, ${inputs} inputs (${(inputs / seconds).toFixed(0)}/s)${describe(coverage)}, corpus ${corpus}, longest ${longestMs.toFixed(0)} ms, heap ${(heapGrowthBytes / 1e6).toFixed(1)} MB more: nothing found`,
    );
  } catch (error) {
    process.exitCode = 1;
    console.error(
      `${name}: seed ${seed}:`,
      error instanceof Finding ? error.message : '',
      toError(error).cause ?? error,
    );
    if (error instanceof Finding && error.steps.length > 0) {
      const steps = await minimise(open, error.steps, minimiseMs);
      const file = await saveFinding(join(repositoryRoot, 'test/fuzz/findings'), `${name}-${seed}`, steps);
      console.error(`${steps.length} steps are in ${file}. Once repaired, it is a test.`);
    }
  } finally {
    await target.close();
    coverage?.stop();
  }
}

function describe(coverage: Coverage | undefined): string {
  return coverage
    ? `, ${coverage.covered} of ${coverage.known} characters of the functions reached (${((100 * coverage.covered) / Math.max(1, coverage.known)).toFixed(1)} %)`
    : '';
}

for (const name of values.target ?? Object.keys(targets)) {
  const open = targets[name];
  if (!open) {
    console.error(`There is no target ${name}: ${Object.keys(targets).join(', ')}.`);
    process.exit(2);
  }
  await fuzz(name, open);
}
