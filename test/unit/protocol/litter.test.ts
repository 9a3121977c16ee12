import assert from 'node:assert/strict';
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { afterEach, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { collectLitter, displaceLitter, passed } from '../../../src/protocol/transport/litter.ts';

const limit = { timeout: 20_000 };
const megabyte = 1024 * 1024;
const youngGenerationMegabytes = 6;
setFlagsFromString('--semi-space-growth-factor=1');
setFlagsFromString(`--max-semi-space-size=${youngGenerationMegabytes / 3}`);

let observer: PerformanceObserver | undefined;
afterEach(() => observer?.disconnect());

/** Resolves once the young generation was looked through this often; the whole heap never was. */
function youngCollections(atLeast: number): Promise<void> {
  let count = 0;
  return new Promise((resolve, reject) => {
    observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        const { kind } = (entry as unknown as { readonly detail: { readonly kind: number } }).detail;
        if (kind === constants.NODE_PERFORMANCE_GC_MAJOR) {
          reject(new Error('the whole heap was looked through'));
        }
        count += kind === constants.NODE_PERFORMANCE_GC_MINOR ? 1 : 0;
      }
      if (count >= atLeast) {
        resolve();
      }
    });
    observer.observe({ entryTypes: ['gc'] });
  });
}

for (const [whose, begin] of [
  ['a process of our own', collectLitter],
  ['a guest', () => displaceLitter(youngGenerationMegabytes)],
] as const) {
  test(`in ${whose}, what has passed is collected while it is young`, limit, async () => {
    begin();
    const collected = youngCollections(8);
    for (let count = 0; count < 80; count++) {
      passed(megabyte);
    }
    await collected;
  });
}

test('a thorough collection gives pages back', limit, () => {
  const collect = collectLitter();
  assert.ok(collect);
  const kept = Array.from({ length: 300_000 }, (_, index) => ({ index, text: `${index}` }));
  const some = kept.filter(({ index }) => index % 20 === 0);
  kept.length = 0;
  collect(false);
  const before = process.memoryUsage().heapTotal;
  collect(true);
  assert.ok(process.memoryUsage().heapTotal < before * 0.8, `${before} → ${process.memoryUsage().heapTotal}`);
  assert.equal(some.length, 15_000);
});
