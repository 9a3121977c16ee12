import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Emitter } from '../../../src/base/index.ts';
import { gather, watchSnapshots } from '../../../src/manager/state/watch.ts';
import { HandClock, settled } from './hand-clock.ts';

function watched() {
  const changed = new Emitter<void>();
  const controller = new AbortController();
  const state = { value: 1 };
  const stream = watchSnapshots(changed.event, controller.signal, () => state.value, String);
  return { changed, controller, state, stream };
}

test('the first snapshot comes at once, the next when something is different', async () => {
  const { changed, state, stream } = watched();
  assert.deepEqual(await stream.next(), { value: 1, done: false });
  const next = stream.next();
  changed.fire();
  await settled();
  state.value = 2;
  changed.fire();
  assert.deepEqual(await next, { value: 2, done: false }, 'an equal snapshot is not sent again');
});

test('changes that come while the reader is busy are joined', async () => {
  const { changed, state, stream } = watched();
  await stream.next();
  for (const value of [2, 3, 4]) {
    state.value = value;
    changed.fire();
  }
  assert.equal((await stream.next()).value, 4);
});

test('the watch ends with its signal and lets go of its source', async () => {
  const { changed, controller, stream } = watched();
  await stream.next();
  const last = stream.next();
  controller.abort();
  assert.equal((await last).done, true);
  assert.equal(changed.listenerCount, 0);
});

test('a list of the very same objects is not sent again', async () => {
  const changed = new Emitter<void>();
  const [one, two] = [{}, {}];
  let list = [one, two];
  const stream = watchSnapshots(
    changed.event,
    new AbortController().signal,
    () => list,
    (each) => each,
  );
  await stream.next();
  const next = stream.next();
  list = [one, two];
  changed.fire();
  await settled();
  list = [two];
  changed.fire();
  assert.deepEqual((await next).value, [two]);
});

test('of many changes the first is told at once, and the others as one', () => {
  const changed = new Emitter<void>();
  const clock = new HandClock();
  let told = 0;
  gather(
    changed.event,
    clock,
    50,
  )(() => {
    told++;
  });
  const counts = [0, 0, 0, 60, 0, 60, 60, 0].map((pauseMs) => {
    clock.advance(pauseMs);
    changed.fire();
    return told;
  });
  assert.deepEqual(counts, [1, 1, 1, 2, 2, 3, 4, 4]);
  clock.advance(50);
  assert.equal(told, 5, 'the last one is not lost');
  clock.advance(500);
  assert.equal(told, 5);
});
