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
