import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeEach, test } from 'node:test';
import { emptyPlan } from '../../../src/agent/port/diversion.ts';
import { UdpForwarder } from '../../../src/agent/port/udp.ts';
import { silentLogger } from '../../../src/base/index.ts';
import { attachment, developer, type Pod, startPod } from './pod.ts';

const limit = { timeout: 10_000 };
let pod: Pod;
let forwarder: UdpForwarder;
let port: number;
/** Where the application was spoken to from. */
let sources: Set<number>;

async function bound(): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  pod.scope.defer(() => void socket.close());
  return socket;
}

beforeEach(async () => {
  pod = await startPod();
  sources = new Set();
  const app = await bound();
  app.on('message', (message, from) => {
    sources.add(from.port);
    app.send(`app ${String(message)}`, from.port, from.address);
  });
  const probe = createSocket('udp6');
  probe.bind(0);
  await once(probe, 'listening');
  port = probe.address().port;
  probe.close();
  await once(probe, 'close');
  const { clock, diverter } = pod;
  const containerPort = app.address().port;
  forwarder = pod.scope.own(
    new UdpForwarder({ agentPort: port, containerPort, podIp: '127.0.0.1', diverter, clock, log: silentLogger }),
  );
  await forwarder.listen();
});
afterEach(() => pod.scope.dispose());

async function ask(socket: Socket, text: string): Promise<string> {
  const answer = once(socket, 'message');
  socket.send(text, port, '127.0.0.1');
  return String((await answer)[0]);
}

test('without an attachment the application answers, each caller by a flow of its own', limit, async () => {
  const [one, two] = [await bound(), await bound()];
  assert.equal(await ask(one, '1'), 'app 1');
  assert.equal(await ask(two, '2'), 'app 2');
  assert.equal(await ask(one, '3'), 'app 3');
  assert.equal(sources.size, 2);
});

for (const way of ['one stream', 'tunnels'] as const) {
  test(`an intercepted flow goes to the developer, and back when the intercept ends (${way})`, limit, async () => {
    await developer(pod, 'ann', way);
    const socket = await bound();
    assert.equal(await ask(socket, '1'), 'app 1');
    forwarder.apply({ ...emptyPlan, whole: attachment('ann', 5000) });
    assert.equal(await ask(socket, '2'), 'laptop 2');
    assert.equal(await ask(socket, ''), 'laptop ');
    forwarder.apply(emptyPlan);
    assert.equal(await ask(socket, '3'), 'app 3');
  });
}

test('when the developer is gone, the application answers', limit, async () => {
  forwarder.apply({ ...emptyPlan, whole: attachment('ann', 5000) });
  assert.equal(await ask(await bound(), '1'), 'app 1');
});

test('a flow that is silent for a minute is forgotten', limit, async () => {
  const socket = await bound();
  await ask(socket, '1');
  pod.clock.advance(40_000);
  await ask(socket, '2');
  assert.equal(sources.size, 1);
  pod.clock.advance(120_000);
  await ask(socket, '3');
  assert.equal(sources.size, 2);
});

test('a wiretap hears datagrams, and only the application answers', limit, async () => {
  const { dials } = await developer(pod, 'ann');
  forwarder.apply({ ...emptyPlan, taps: [attachment('ann', 5000)] });
  const socket = await bound();
  assert.equal(await ask(socket, '1'), 'app 1');
  assert.equal(await ask(socket, '2'), 'app 2');
  assert.deepEqual(dials, [socket.address().port]);
});
