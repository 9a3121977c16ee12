import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Emitter } from '../../../src/base/index.ts';
import { watchSnapshots } from '../../../src/manager/state/watch.ts';
import { settled } from './hand-clock.ts';

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
