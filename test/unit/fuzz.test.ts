import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { feed } from '../fuzz/loop.ts';
import { Random } from '../fuzz/random.ts';
import { targets } from '../fuzz/targets/index.ts';

const inputs = 3_000;
const slowInputs = 300;
const findings = join(import.meta.dirname, '../fuzz/findings');

for (const [name, open] of Object.entries(targets)) {
  test(`${name} survives ${name === 'control' ? slowInputs : inputs} random inputs of the right form`, async (t) => {
    const target = await open();
    t.after(() => target.close());
    await feed(target, 20_301, (done) => done >= (name === 'control' ? slowInputs : inputs));
  });
}

for (const file of readdirSync(findings).filter((each) => each.endsWith('.txt'))) {
  test(`what was once found stays repaired: ${file}`, async (t) => {
    const open = targets[file.replace(/-\d+\.txt$/, '')];
    const target = await open?.();
    t.after(() => target?.close());
    const random = new Random(1);
    for (const line of readFileSync(join(findings, file), 'utf8').trim().split('\n')) {
      await target?.run(Buffer.from(line, 'hex'), random);
    }
    await target?.settle();
  });
}
