import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { LogLevelSwitch, parseLogLevel, silentLogger } from '../../../src/base/index.ts';
import { LogControl } from '../../../src/manager/service/log-control.ts';
import { wire } from '../../../src/protocol/index.ts';
import { HandClock } from './hand-clock.ts';

function control() {
  const clock = new HandClock();
  const level = new LogLevelSwitch(clock, 'info');
  const logs = new LogControl({ level, clock, log: silentLogger });
  const set = (request: MessageInitShape<typeof wire.LogLevelRequestSchema>): void =>
    logs.set(create(wire.LogLevelRequestSchema, request));
  const watch = (): AsyncGenerator<wire.LogLevelRequest> => logs.watch(new AbortController().signal);
  return { clock, level, set, watch };
}

test('a level holds for its time, and then the configured one is back', () => {
  const { clock, level, set } = control();
  set({ logLevel: 'debug', duration: { seconds: 30n } });
  assert.equal(level.level(), 'debug');
  clock.advance(31_000);
  assert.equal(level.level(), 'info');
  assert.equal(clock.timers, 0);
});

test('without a time it holds until the next call', () => {
  const { clock, level, set } = control();
  set({ logLevel: 'TRACE' });
  clock.advance(1e9);
  assert.equal(level.level(), 'trace');
  set({ logLevel: 'warning' });
  assert.equal(level.level(), 'warn');
  set({ logLevel: 'info' });
  assert.equal(level.override, undefined);
});

test('agents hear what is asked, and one that comes later what is left of it', async () => {
  const { clock, set, watch } = control();
  const early = watch();
  const first = early.next();
  set({ logLevel: 'debug', duration: { seconds: 30n } });
  assert.equal((await first).value?.logLevel, 'debug');
  clock.advance(10_000);
  const late = await watch().next();
  assert.equal(late.value?.duration?.seconds, 20n);
});

test('what is no level is refused, and no duration is below zero', () => {
  const { set } = control();
  assert.throws(() => set({ logLevel: 'loud' }), { reason: 'manager.bad-request' });
  assert.throws(() => set({ logLevel: 'debug', duration: { seconds: -1n } }), { reason: 'manager.bad-request' });
  assert.deepEqual(['fatal', ' Info', ''].map(parseLogLevel), ['error', 'info', undefined]);
});
