import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, test } from 'node:test';
import { openPodProxy } from '../../../src/kube/pod-proxy.ts';
import type { Requester } from '../../../src/kube/request.ts';

const limit = { timeout: 10_000 };
const upgrade = { path: '/way', protocol: 'ours' };
const switching = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ours\r\n\r\n';

let server: Server;
let asked: IncomingMessage[] = [];
let answer: (socket: Duplex) => void = () => undefined;
const open: Duplex[] = [];

beforeEach(async () => {
  asked = [];
  server = createServer((request, response) => {
    asked.push(request);
    response.writeHead(403).end('{}');
  });
  server.on('upgrade', (request, socket) => {
    asked.push(request);
    socket.on('error', () => undefined);
    open.push(socket);
    answer(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterEach(() => {
  for (const each of open.splice(0)) {
    each.destroy();
  }
  server.closeAllConnections();
  server.close();
});

async function proxied(signal = new AbortController().signal): Promise<Duplex> {
  const { port } = server.address() as AddressInfo;
  const requester: Pick<Requester, 'server' | 'options'> = {
    server: `http://127.0.0.1:${port}/`,
    options: async () => ({ headers: { authorization: 'Bearer token' } }),
  };
  const where = { namespace: 'n', pod: 'p 1', port: 8081 };
  const duplex = await openPodProxy(requester as Requester, { ...where, upgrade, signal });
  open.push(duplex);
  return duplex;
}

test('it asks the API server for the pod’s own upgrade, with the user’s credentials', limit, async () => {
  answer = (socket) => socket.write(`${switching}hello`);
  const duplex = await proxied();
  const [{ url, headers }] = asked as [IncomingMessage];
  assert.equal(url, '/api/v1/namespaces/n/pods/p%201:8081/proxy/way');
  assert.equal(headers.upgrade, 'ours');
  assert.equal(headers.authorization, 'Bearer token');
  assert.equal(String(duplex.read()), 'hello');
});

test('bytes go both ways', limit, async () => {
  answer = (socket) => {
    socket.write(`${switching}hello`);
    socket.on('data', (chunk: Buffer) => socket.write(chunk.toString().toUpperCase()));
  };
  const duplex = await proxied();
  duplex.read();
  duplex.write('again');
  const [chunk] = await once(duplex, 'data');
  assert.equal(String(chunk), 'AGAIN');
});

test('without the right to it the error says so', limit, async () => {
  const way = new AbortController();
  server.removeAllListeners('upgrade');
  await assert.rejects(proxied(way.signal), { reason: 'kube.forbidden' });
});

for (const [what, act] of [
  ['agrees, and closes before the program has said anything', (socket: Duplex) => socket.end(switching)],
  ['closes', (socket: Duplex) => socket.destroy()],
] as const) {
  test(`whoever ${what} is no way`, limit, async () => {
    answer = act;
    await assert.rejects(proxied(), { reason: 'kube.forward-failed' });
  });
}

test('whoever agrees and says nothing is given up with the signal', limit, async () => {
  const giveUp = new AbortController();
  answer = (socket) => {
    socket.write(switching, () => giveUp.abort());
  };
  await assert.rejects(proxied(giveUp.signal), { reason: 'kube.forward-failed' });
});

test('once it is open the signal does not end it', limit, async () => {
  const opening = new AbortController();
  answer = (socket) => socket.write(`${switching}hello`);
  const duplex = await proxied(opening.signal);
  opening.abort();
  assert.equal(String(duplex.read()), 'hello');
  assert.equal(duplex.destroyed, false);
});
