import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { type ClientHttp2Session, createServer, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { keepAlive, livingSession } from '../../../src/protocol/transport/alive.ts';
import { openHttp2 } from '../../../src/protocol/transport/session.ts';
import { waitFor } from '../../cluster/shell.ts';
import { HandClock } from '../manager/hand-clock.ts';

/** As much of a session as is looked at: its bytes come by hand, and so do the answers to its PINGs. */
class FakeSession extends EventEmitter {
  destroyed = false;
  readonly socket = { bytesRead: 0, bytesWritten: 0 };
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
  keepAlive(livingSession(session as unknown as ClientHttp2Session), clock);
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

test('a PING behind a slow upload is waited for while the upload moves, and not for ever', () => {
  const { session, clock } = setup();
  clock.advance(10_000);
  for (let second = 0; second < 30; second++) {
    session.socket.bytesWritten += 20_000;
    clock.advance(1_000);
  }
  assert.equal(session.destroyed, false);
  for (let second = 0; second < 10; second++) {
    session.socket.bytesWritten += 20_000;
    clock.advance(1_000);
  }
  assert.equal(session.destroyed, true, 'bytes that leave are no answer');
});

test('the PING itself is no upload', () => {
  const { session, clock } = setup();
  clock.advance(10_000);
  session.socket.bytesWritten += 17;
  clock.advance(5_000);
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

/** A server that counts, and answers calls only while it is told to. */
async function countingServer() {
  const seen = { pings: 0, calls: 0, isAnswering: true };
  const sessions: ServerHttp2Session[] = [];
  const server = createServer();
  server.on('session', (session) => {
    sessions.push(session);
    session.on('ping', () => {
      seen.pings++;
    });
  });
  server.on('stream', (stream, headers) => {
    seen.calls++;
    // Go's servers leave a call open that they know, and whose message does not come.
    if (
      seen.isAnswering &&
      !headers[':path']?.startsWith('/telepresence.') &&
      !headers[':path']?.startsWith('/grpc.')
    ) {
      stream.respond({ ':status': 200, 'grpc-status': '12' }, { endStream: true });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = (): void => {
    for (const each of sessions) {
      each.destroy();
    }
    server.close();
  };
  return { seen, port: (server.address() as AddressInfo).port, close };
}

test('a quiet session is kept alive by calls: Go’s servers end one that only sends PINGs', async () => {
  const { seen, port, close } = await countingServer();
  const clock = new HandClock();
  const session = await openHttp2({ host: '127.0.0.1', port }, { clock });
  try {
    for (let round = 1; round <= 5; round++) {
      clock.advance(10_000);
      await waitFor('an answer', 5_000, async () => (seen.calls === round && clock.timers === 1 ? true : undefined));
    }
    assert.deepEqual([seen.pings, session.destroyed], [0, false]);
  } finally {
    session.destroy();
    close();
  }
});

test('a far side that answers no call and sends nothing is given up as well', async () => {
  const { seen, port, close } = await countingServer();
  const clock = new HandClock();
  const session = await openHttp2({ host: '127.0.0.1', port }, { clock });
  try {
    seen.isAnswering = false;
    clock.advance(10_000);
    await waitFor('the call', 5_000, async () => (seen.calls === 1 ? true : undefined));
    clock.advance(2_500);
    clock.advance(2_500);
    clock.advance(2_500);
    assert.equal(session.destroyed, true);
  } finally {
    session.destroy();
    close();
  }
});
