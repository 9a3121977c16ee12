import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Seldom } from '../../../src/base/index.ts';
import { HandClock } from '../manager/hand-clock.ts';

test('one line goes through in ten seconds, and the next one says how many were held back', () => {
  const clock = new HandClock();
  const line = new Seldom(clock);
  assert.equal(line.next(), 0);
  assert.deepEqual([line.next(), line.next()], [undefined, undefined]);
  clock.advance(9_999);
  assert.equal(line.next(), undefined);
  clock.advance(1);
  assert.equal(line.next(), 3);
  clock.advance(10_000);
  assert.equal(line.next(), 0);
});
