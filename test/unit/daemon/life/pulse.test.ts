import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../../../../src/base/index.ts';
import { startPulse } from '../../../../src/daemon/life/pulse.ts';
import { createDescriptorTun, type DescriptorAddon } from '../../../../src/daemon/tun/descriptor.ts';
import { HandClock } from '../../manager/hand-clock.ts';

const hangMs = 20_000;

/** A system that ends the process when its time is over, and a service manager that listens. */
function setup({ notifyPath, hangMs: limitMs = hangMs }: { notifyPath?: string; hangMs?: number } = {}) {
  const clock = new HandClock();
  const told: string[] = [];
  const state = { endsAtMs: Number.POSITIVE_INFINITY, hasStalled: false };
  const pulse = startPulse({
    clock,
    log: silentLogger,
    platform: {
      expire(ms) {
        state.endsAtMs = ms === 0 ? Number.POSITIVE_INFINITY : clock.nowMs() + ms;
        return true;
      },
      notify: (path, text) => told.push(`${path} ${text}`) > 0,
    },
    hangMs: limitMs,
    notifyPath,
    hasStalled: () => state.hasStalled,
  });
  return { clock, told, state, pulse };
}

test('from the first moment the system would end a process that says nothing more', () => {
  const { state } = setup();
  assert.equal(state.endsAtMs, hangMs);
});

test('a loop that turns puts its end off, again and again', () => {
  const { clock, state } = setup();
  clock.advance(10 * hangMs);
  assert.ok(state.endsAtMs > clock.nowMs() + hangMs / 2);
});

test('a loop that turns and does not read the device is not alive', () => {
  const { clock, state, told } = setup({ notifyPath: '@manager' });
  clock.advance(hangMs);
  state.hasStalled = true;
  const last = state.endsAtMs;
  told.length = 0;
  clock.advance(hangMs);
  assert.equal(state.endsAtMs, last);
  assert.deepEqual(told, []);
});

test('the service manager hears that it serves, lives and stops', () => {
  const { clock, told, pulse } = setup({ notifyPath: '/run/notify' });
  pulse.ready();
  clock.advance(hangMs / 2);
  pulse.stopping();
  assert.deepEqual(told, [
    '/run/notify READY=1',
    '/run/notify WATCHDOG=1',
    '/run/notify WATCHDOG=1',
    '/run/notify STOPPING=1',
  ]);
});

test('without a manager nobody is told, and with no limit nobody ends it', () => {
  const { clock, told, pulse } = setup();
  pulse.ready();
  clock.advance(hangMs);
  assert.deepEqual(told, []);
  assert.equal(setup({ hangMs: 0 }).state.endsAtMs, Number.POSITIVE_INFINITY);
});

test('one that ended in order is not ended again', () => {
  const { clock, state, pulse } = setup();
  void pulse.dispose();
  assert.equal(state.endsAtMs, Number.POSITIVE_INFINITY);
  assert.equal(clock.timers, 0);
});

/** A device whose queue a test fills, and whose reader a test stops. */
function openDevice() {
  let read: (count: number) => void = () => undefined;
  const queue = { waiting: 0 };
  const addon: DescriptorAddon = {
    start: (_fd, _buffer, _slot, _max, _lengths, callback) => {
      read = callback;
      return {};
    },
    stop: () => undefined,
    write: () => 0,
    close: () => undefined,
    waiting: () => queue.waiting,
    expire: () => 1,
  };
  const device = createDescriptorTun(addon, 'nf0', 3);
  device.start(() => undefined);
  return { hasStalled: () => device.hasStalled?.(), queue, read: () => read(1) };
}

test('packets that wait from one look to the next and are not read are a stall', () => {
  const { hasStalled, queue, read } = openDevice();
  assert.equal(hasStalled(), false);
  queue.waiting = 1;
  assert.equal(hasStalled(), false);
  assert.equal(hasStalled(), true);
  assert.equal(hasStalled(), true);
  read();
  assert.equal(hasStalled(), false);
});

test('a device that is read is busy, not stalled, however full it is', () => {
  const { hasStalled, queue, read } = openDevice();
  queue.waiting = 1;
  for (let turn = 0; turn < 5; turn++) {
    read();
    assert.equal(hasStalled(), false);
  }
});

test('an empty device is idle, not stalled', () => {
  const { hasStalled } = openDevice();
  for (let turn = 0; turn < 5; turn++) {
    assert.equal(hasStalled(), false);
  }
});
