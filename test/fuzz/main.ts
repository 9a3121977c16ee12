/** `npm run fuzz -- --target nat --minutes 10 --seed 1`: random input of the right form for what reads bytes of strangers. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { toError } from '../../src/base/index.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { Finding, feed } from './loop.ts';
import { targets } from './targets/index.ts';

const { values } = parseArgs({
  options: {
    target: { type: 'string', multiple: true },
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const seed = Number(values.seed);
for (const name of values.target ?? Object.keys(targets)) {
  const open = targets[name];
  if (!open) {
    console.error(`There is no target ${name}: ${Object.keys(targets).join(', ')}.`);
    process.exit(2);
  }
  const target = await open();
  const started = performance.now();
  const limitMs = Number(values.minutes) * 60_000;
  try {
    const { inputs, longestMs, heapGrowthBytes } = await feed(
      target,
      seed,
      () => performance.now() - started > limitMs,
    );
    const seconds = (performance.now() - started) / 1000;
    console.log(
      `${name}: seed ${seed}, ${(seconds / 60).toFixed(1)} minutes, ${inputs} inputs (${(inputs / seconds).toFixed(0)}/s), longest ${longestMs.toFixed(0)} ms, heap ${(heapGrowthBytes / 1e6).toFixed(1)} MB more: nothing found`,
    );
  } catch (error) {
    console.error(
      `${name}: seed ${seed}:`,
      error instanceof Finding ? error.message : '',
      toError(error).cause ?? error,
    );
    if (error instanceof Finding) {
      const folder = join(repositoryRoot, 'test/fuzz/findings');
      await mkdir(folder, { recursive: true });
      const file = join(folder, `${name}-${seed}.txt`);
      await writeFile(file, `${error.inputs.map((input) => Buffer.from(input).toString('hex')).join('\n')}\n`);
      console.error(`The last inputs are in ${file}. Once repaired, it is a test.`);
    }
    process.exitCode = 1;
  } finally {
    await target.close();
  }
}
