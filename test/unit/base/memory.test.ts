import assert from 'node:assert/strict';
import { test } from 'node:test';
import { giveMemoryBack } from '../../../src/base/memory.ts';
import { isMemoryTight } from '../../../src/protocol/transport/index.ts';
import { HandClock } from '../manager/hand-clock.ts';

function start() {
  const clock = new HandClock();
  const state = {
    cpuMs: 0,
    heldBytes: 120_000_000,
    liveBytes: 25_000_000,
    collections: 0,
    thorough: 0,
    isTight: false,
  };
  giveMemoryBack({
    clock,
    cpuMs: () => state.cpuMs,
    heldBytes: () => state.heldBytes,
    worthBytes: 48_000_000,
    isTight: () => state.isTight,
    collect: (isThorough) => {
      state.collections++;
      state.thorough += isThorough ? 1 : 0;
      state.heldBytes = state.liveBytes;
    },
  });
  return { clock, state };
}

test('memory is given back once, when the traffic is over', () => {
  const { clock, state } = start();
  state.cpuMs += 4_000;
  clock.advance(10_000);
  assert.equal(state.collections, 0, 'while there is traffic nothing is paused');
  clock.advance(10_000);
  assert.equal(state.collections, 1);
  clock.advance(60_000);
  assert.equal(state.collections, 1, 'what is live stays');
  assert.equal(state.thorough, 1, 'nobody waits');
});

test('traffic that does not end is paused once a minute, while there is something to give back', () => {
  const { clock, state } = start();
  for (let second = 0; second < 180; second += 10) {
    state.cpuMs += 4_000;
    state.heldBytes = 120_000_000;
    clock.advance(10_000);
  }
  assert.equal(state.collections, 3);
  for (let second = 0; second < 180; second += 10) {
    state.cpuMs += 4_000;
    clock.advance(10_000);
  }
  assert.equal(state.collections, 3, 'what is live stays');
  assert.equal(state.thorough, 0);
});

test('a heap that holds little is left alone', () => {
  const { clock, state } = start();
  state.heldBytes = 30_000_000;
  clock.advance(60_000);
  assert.equal(state.collections, 0);
});

test('what a collection could not give back is no reason for the next one', () => {
  const { clock, state } = start();
  state.liveBytes = 100_000_000;
  clock.advance(60_000);
  assert.equal(state.collections, 1);
  state.heldBytes = 130_000_000;
  clock.advance(10_000);
  assert.equal(state.collections, 2, 'more than that is one');
});

test('near the limit everything that can be is given back, once a minute at most, however busy it is', () => {
  const { clock, state } = start();
  state.isTight = true;
  state.liveBytes = 110_000_000;
  for (let second = 0; second < 180; second += 10) {
    state.cpuMs += 4_000;
    clock.advance(10_000);
  }
  assert.equal(state.collections, 3);
  assert.equal(state.thorough, 3);
  state.isTight = false;
  for (let second = 0; second < 180; second += 10) {
    state.cpuMs += 4_000;
    clock.advance(10_000);
  }
  assert.equal(state.collections, 3, 'there is room again');
});

test('a machine with room is not tight', () => {
  assert.equal(isMemoryTight(), false);
});
