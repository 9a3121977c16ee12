import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerCache } from '../../../../src/daemon/dns/cache.ts';

const entry = (untilMs: number, sizeBytes = 0) => ({ atMs: 0, untilMs, sizeBytes });

test('what was not asked for the longest time goes first', () => {
  const cache = new AnswerCache({ maxEntries: 2, maxBytes: 10_000 });
  cache.set('a', entry(100), 0);
  cache.set('b', entry(100), 0);
  cache.get('a', 1);
  cache.set('c', entry(100), 2);
  assert.deepEqual(
    ['a', 'b', 'c'].map((key) => cache.get(key, 3) !== undefined),
    [true, false, true],
  );
});

test('room is counted in bytes too', () => {
  const cache = new AnswerCache({ maxEntries: 100, maxBytes: 3_000 });
  for (const key of ['a', 'b', 'c', 'd']) {
    cache.set(key, entry(100, 800), 0);
  }
  assert.equal(cache.size, 3);
  cache.set('e', entry(100, 2_900), 0);
  assert.equal(cache.get('e', 0), undefined);
  assert.equal(cache.size, 3);
  for (let round = 0; round < 50; round++) {
    cache.set('a', entry(100, 800), 0);
  }
  assert.equal(cache.size, 3);
});

test('what is over is not found, and not kept', () => {
  const cache = new AnswerCache({ maxEntries: 2, maxBytes: 10_000 });
  cache.set('a', entry(100), 0);
  assert.ok(cache.get('a', 99));
  assert.equal(cache.get('a', 100), undefined);
  assert.equal(cache.size, 0);
  cache.set('b', entry(100), 100);
  assert.equal(cache.size, 0);
});
