import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ClientHttp2Session } from 'node:http2';
import { test } from 'node:test';
import { keepAlive } from '../../../src/protocol/transport/session.ts';
import { HandClock } from '../manager/hand-clock.ts';

/** As much of a session as is looked at: its bytes come by hand, and so do the answers to its PINGs. */
class FakeSession extends EventEmitter {
  destroyed = false;
  readonly socket = { bytesRead: 0 };
  readonly pings: (() => void)[] = [];

  ping(answered: () => void): boolean {
    this.pings.push(answered);
    return true;
  }

  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
}

function setup() {
  const session = new FakeSession();
  const clock = new HandClock();
  keepAlive(session as unknown as ClientHttp2Session, clock);
  return { session, clock };
}

test('a far side that answers no PING and sends nothing is given up within 15 seconds', () => {
  const { session, clock } = setup();
  clock.advance(10_000);
  assert.equal(session.pings.length, 1);
  clock.advance(4_000);
  assert.equal(session.destroyed, false);
  clock.advance(1_000);
  assert.equal(session.destroyed, true);
  assert.equal(clock.timers, 0);
});

test('an answer that waits behind other bytes is waited for, until the bytes stop', () => {
  const { session, clock } = setup();
  clock.advance(10_000);
  for (let second = 0; second < 30; second++) {
    session.socket.bytesRead += 1_000;
    clock.advance(1_000);
  }
  assert.equal(session.destroyed, false);
  assert.equal(session.pings.length, 1, 'one at a time');
  clock.advance(7_500);
  assert.equal(session.destroyed, true);
});

test('a session whose PINGs are answered stays, and asks again every ten seconds', () => {
  const { session, clock } = setup();
  for (let round = 1; round <= 5; round++) {
    clock.advance(10_000);
    assert.equal(session.pings.length, round);
    session.pings.at(-1)?.();
  }
  clock.advance(9_000);
  assert.equal(session.destroyed, false);
});
