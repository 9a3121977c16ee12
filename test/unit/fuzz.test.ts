import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { minimise, parseSteps, replay } from '../fuzz/finding.ts';
import { feed } from '../fuzz/loop.ts';
import { targets } from '../fuzz/targets/index.ts';

const inputs = 3_000;
/** Those that open sockets, or in which one input is many events. */
const slow = new Map([
  ['calls', 300],
  ['control', 300],
  ['flows', 1_000],
  ['review', 1_000],
  ['sftp', 600],
]);
const findings = join(import.meta.dirname, '../fuzz/findings');

for (const [name, open] of Object.entries(targets)) {
  const wanted = slow.get(name) ?? inputs;
  test(`${name} survives ${wanted} random inputs of the right form`, async (t) => {
    const target = await open();
    t.after(() => target.close());
    await feed(target, { seed: 20_301, isOver: (done) => done >= wanted });
  });
}

for (const file of readdirSync(findings).filter((each) => each.endsWith('.txt'))) {
  test(`what was once found stays repaired: ${file}`, async (t) => {
    const open = targets[file.replace(/-[^-]+\.txt$/, '')];
    assert.ok(open, `no target for ${file}`);
    const target = await open();
    t.after(() => target.close());
    await replay(target, parseSteps(readFileSync(join(findings, file), 'utf8')));
  });
}

test('of many steps that break a rule, the few that do it are left, without the bytes that do nothing', async () => {
  const open = () => {
    const seen = new Set<number>();
    return {
      seeds: [],
      run(input: Uint8Array) {
        seen.add(input.at(-1) ?? 0);
        assert.ok(!(seen.has(7) && seen.has(9)));
      },
      settle: () => undefined,
      close: () => undefined,
    };
  };
  const steps = Array.from({ length: 40 }, (_, index) => ({ seed: index, input: Uint8Array.of(1, 2, 3, index) }));
  assert.deepEqual(await minimise(open, steps, 60_000), [
    { seed: 7, input: Uint8Array.of(7) },
    { seed: 9, input: Uint8Array.of(9) },
  ]);
});
