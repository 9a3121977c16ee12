import assert from 'node:assert/strict';
import { test } from 'node:test';
import { watchWake } from '../../../../src/daemon/life/wake.ts';
import { HandClock } from '../../manager/hand-clock.ts';

/** A machine whose steady clock stands still in sleep, as Linux's does. */
function setup() {
  const clock = new HandClock();
  const woke: number[] = [];
  let asleepMs = 0;
  const watching = watchWake({ clock, bootMs: () => clock.nowMs() + asleepMs }, (ms) => woke.push(ms));
  return {
    clock,
    woke,
    watching,
    sleep: (ms: number) => {
      asleepMs += ms;
    },
  };
}

test('sleep is noticed within a second of waking, once', () => {
  const { clock, woke, sleep } = setup();
  clock.advance(60_000);
  sleep(3_600_000);
  clock.advance(1_000);
  assert.deepEqual(woke, [3_600_000]);
  clock.advance(60_000);
  assert.equal(woke.length, 1);
});

test('a loop that is late by a few seconds has not slept', () => {
  const { clock, woke, sleep } = setup();
  for (let turn = 0; turn < 20; turn++) {
    sleep(4_000);
    clock.advance(1_000);
  }
  assert.deepEqual(woke, []);
});

test('each sleep counts by itself', () => {
  const { clock, woke, sleep } = setup();
  for (const ms of [10_000, 20_000]) {
    sleep(ms);
    clock.advance(1_000);
  }
  assert.deepEqual(woke, [10_000, 20_000]);
});

test('nobody is called after the end', () => {
  const { clock, woke, sleep, watching } = setup();
  void watching.dispose();
  sleep(60_000);
  clock.advance(2_000);
  assert.deepEqual(woke, []);
});
