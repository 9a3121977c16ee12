import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collectWhenQuiet } from '../../../src/manager/quiet.ts';
import { HandClock } from './hand-clock.ts';

function start() {
  const clock = new HandClock();
  const state = { cpuMs: 0, heapBytes: 120_000_000, collections: 0 };
  collectWhenQuiet({
    clock,
    cpuMs: () => state.cpuMs,
    heapBytes: () => state.heapBytes,
    collect: () => {
      state.collections++;
      state.heapBytes = 25_000_000;
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
});

test('a heap that holds little is left alone', () => {
  const { clock, state } = start();
  state.heapBytes = 30_000_000;
  clock.advance(60_000);
  assert.equal(state.collections, 0);
});
