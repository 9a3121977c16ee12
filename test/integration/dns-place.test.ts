import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import { silentLogger, systemClock } from '../../src/base/index.ts';
import { DnsServer } from '../../src/daemon/dns/server.ts';
import { FakeCluster, FakeUpstream, question } from '../unit/daemon/dns/support.ts';

/** Any address below 127 is the machine's own; the port is below those that are given out. */
const place = { address: '127.77.3.233', port: 20_053 };

function make(): DnsServer {
  const server = new DnsServer({ clock: systemClock, log: silentLogger, upstream: new FakeUpstream() });
  server.configure([new FakeCluster().client()]);
  return server;
}

test('a server that has to listen at a certain place listens there, and nowhere else', async (t) => {
  const server = make();
  t.after(() => server.dispose());
  assert.equal(await server.listen({ place }), place.port);
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  socket.send(question('web.svc'), place.port, place.address);
  const [, from] = await once(socket, 'message', { signal: AbortSignal.timeout(5_000) });
  assert.equal(from.address, place.address);
});

test('a place that is taken is an error: another one would never be asked', async (t) => {
  const first = make();
  t.after(() => first.dispose());
  await first.listen({ place });
  await assert.rejects(make().listen({ place }), { code: 'EADDRINUSE' });
});
