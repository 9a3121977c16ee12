import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Machine, openMachine, startConnector, startDaemon } from '../support/machine.ts';

// The daemon's whole path on a real device, with the connector's end played by a fake.
let machine: Machine;

before(async () => {
  machine = await openMachine();
  await startDaemon(machine);
  await startConnector(machine, {
    answers: { '10.201.0.9:80': 'refused' },
    names: { 'echo.default.svc.cluster.local.': '10.201.0.7' },
  });
});

after(() => machine.close());

const say = (host: string, port: number): Promise<string> =>
  machine.run(['bash', '-c', `exec 3<>/dev/tcp/${host}/${port} && echo hello >&3 && head -n 1 <&3`]);

test('a connection that the connector takes is echoed', async () => {
  assert.equal(await say('10.201.0.7', 8080), 'hello\n');
});

test('a connection that the connector refuses is refused', async () => {
  await assert.rejects(say('10.201.0.9', 80), /Connection refused/);
});
