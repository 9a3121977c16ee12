import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { createEntrance } from '../../../src/protocol/transport/entrance.ts';
import { Guests } from '../../../src/protocol/transport/guests.ts';
import { HandClock } from '../manager/hand-clock.ts';

const limit = { timeout: 20_000 };

for (const [what, bytes] of [
  ['says nothing', ''],
  ['begins a request and does not go on', 'GET / HT'],
] as const) {
  test(`whoever ${what} is closed after a while, and what they held is free`, limit, async () => {
    const clock = new HandClock();
    const guests = new Guests({ clock });
    const { server } = createEntrance({
      ...{ clock, guests, firstWordMs: 15_000 },
      onHttp2: () => assert.fail('no HTTP/2'),
      onMux: () => assert.fail('nor connections in one'),
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const arrived = once(server, 'connection');
    const socket = connect({ host: '127.0.0.1', port });
    socket.on('error', () => undefined);
    socket.write(bytes);
    const [theirs] = await arrived;
    const closed = Promise.all([once(socket, 'close'), once(theirs, 'close')]);
    clock.advance(14_999);
    assert.equal(theirs.destroyed, false);
    clock.advance(1);
    socket.resume();
    await closed;
    server.close();
    await once(server, 'close');
  });
}
