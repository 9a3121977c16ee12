import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test } from 'node:test';
import { openProbePorts, parseProbePorts } from '../../../src/agent/port/probes.ts';
import { Diverter } from '../../../src/agent/tunnel/diverter.ts';
import { Scope, silentLogger, systemClock } from '../../../src/base/index.ts';

test('pairs of ports are read, and nothing else', () => {
  assert.deepEqual(parseProbePorts('9903:8080,9904:9000'), [
    { port: 9903, containerPort: 8080 },
    { port: 9904, containerPort: 9000 },
  ]);
  assert.deepEqual(parseProbePorts(',0:80,80:70000,a:b,1:2:3'), []);
});

test('a probe reaches the application through the agent, where the kernel does not lead it past', async () => {
  const app = createServer((socket) => socket.end('alive')).listen(0, '127.0.0.1');
  await once(app, 'listening');
  const spare = createServer().listen(0);
  await once(spare, 'listening');
  const { port } = spare.address() as AddressInfo;
  await new Promise((resolve) => spare.close(resolve));
  const { port: containerPort } = app.address() as AddressInfo;
  await using scope = new Scope();
  scope.defer(() => void app.close());
  const diverter = new Diverter(systemClock, silentLogger, () => undefined);
  const shared = { podIp: '127.0.0.1', diverter, clock: systemClock, log: silentLogger };
  await openProbePorts([{ port, containerPort }], scope, shared);
  const [answer] = (await once(connect(port, '127.0.0.1'), 'data')) as [Buffer];
  assert.equal(String(answer), 'alive');
});
