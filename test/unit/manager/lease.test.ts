import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wire } from '../../../src/protocol/index.ts';
import { deployment, FakeCluster, podOf, webService } from './fake-cluster.ts';
import { fakeManager } from './fake-manager.ts';
import { settled } from './hand-clock.ts';
import { agentInfo, clientInfo, interceptSpec } from './messages.ts';

const { AGENT_ERROR, WAITING } = wire.InterceptDispositionType;

async function attached(policy: object) {
  const cluster = new FakeCluster(deployment(), webService(), podOf('web', '1'));
  const put = (each: object): void =>
    cluster.put({
      kind: 'ConfigMap',
      metadata: { name: 'traffic-manager', namespace: 'ambassador' },
      data: { 'policy.yaml': JSON.stringify(each) },
    } as never);
  put(policy);
  const parts = fakeManager(cluster);
  await parts.guard.ready();
  const client = parts.store.addClient('session', clientInfo({ product: 'telepresence' }));
  parts.store.addAgent('agent:uid-web-1', agentInfo());
  parts.store.addIntercept(client, interceptSpec());
  const found = () => parts.store.intercepts.get('session:web');
  return { ...parts, put, found };
}

test('an attachment ends when its time is over: its holder reads why, and then it is gone', async () => {
  const { clock, found } = await attached({ maxDuration: '1h' });
  clock.advance(3_599_000);
  assert.equal(found()?.disposition, WAITING);
  clock.advance(2_000);
  assert.equal(found()?.disposition, AGENT_ERROR);
  assert.match(found()?.message ?? '', /allows an attachment 1h, and that is over/);
  clock.advance(11_000);
  assert.equal(found(), undefined);
});

test('without a limit it stays', async () => {
  const { clock, found } = await attached({});
  clock.advance(80_000_000);
  assert.equal(found()?.disposition, WAITING);
});

test('an owner who changes their mind ends what is not allowed any more', async () => {
  const { put, found } = await attached({});
  put({ allowGlobalIntercepts: false });
  await settled();
  assert.equal(found()?.disposition, AGENT_ERROR);
  assert.match(found()?.message ?? '', /does not allow to take all requests/);
});
