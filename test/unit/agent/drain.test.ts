import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drain } from '../../../src/agent/drain.ts';
import { HandClock, settled } from '../manager/hand-clock.ts';

async function pass(clock: HandClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 100) {
    clock.advance(100);
    await settled();
  }
}

test('an agent that is told to stop waits for late callers and for those in flight', async () => {
  const clock = new HandClock();
  let open = 1;
  let isDone = false;
  void drain(clock, () => open).then(() => {
    isDone = true;
  });
  await settled();
  await pass(clock, 20_000);
  assert.equal(isDone, false, 'a long request is not cut');
  open = 0;
  await pass(clock, 200);
  assert.equal(isDone, true);
  assert.equal(clock.timers, 0);
});
