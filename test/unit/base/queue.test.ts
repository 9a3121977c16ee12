import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Queue } from '../../../src/base/index.ts';

test('what went in first comes out first, whatever goes in meanwhile', () => {
  const queue = new Queue<number>();
  const out: (number | undefined)[] = [];
  for (let number = 0; number < 100; number += 2) {
    queue.push(number);
    queue.push(number + 1);
    out.push(queue.shift());
  }
  assert.equal(queue.length, 50);
  while (queue.length > 0) {
    out.push(queue.shift());
  }
  assert.deepEqual(
    out,
    Array.from({ length: 100 }, (_, number) => number),
  );
});

test('an empty one has nothing, and takes again', () => {
  const queue = new Queue<string>();
  assert.equal(queue.shift(), undefined);
  queue.push('a');
  assert.deepEqual([queue.shift(), queue.shift(), queue.length], ['a', undefined, 0]);
});
