import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../../../src/base/index.ts';
import type { Kind, Kube } from '../../../src/kube/index.ts';
import { ClusterView } from '../../../src/manager/cluster/cluster.ts';
import { deployment, FakeCluster, podOf, webService } from './fake-cluster.ts';
import { fakeManager } from './fake-manager.ts';
import { HandClock, settled } from './hand-clock.ts';

const limitMs = 2_000;

test('the workload of a pod that is quicker than the watches is waited for', async () => {
  const cluster = new FakeCluster();
  const clock = new HandClock();
  const found = cluster.view.awaitWorkloadOfPod(podOf('web', '1'), 'shop', { clock, limitMs });
  await settled();
  cluster.put(webService());
  cluster.put(deployment());
  assert.equal((await found)?.name, 'web');
});

test('a pod whose workload never appears waits no longer than the limit', async () => {
  const cluster = new FakeCluster();
  const clock = new HandClock();
  const found = cluster.view.awaitWorkloadOfPod(podOf('web', '1'), 'shop', { clock, limitMs });
  await settled();
  clock.advance(limitMs);
  assert.equal(await found, undefined);
});

test('a workload that is known is there at once', async () => {
  const cluster = new FakeCluster(deployment());
  const clock = new HandClock();
  const found = await cluster.view.awaitWorkloadOfPod(podOf('web', '1'), 'shop', { clock, limitMs });
  assert.equal(found?.name, 'web');
});

test('a workload that is deleted takes its agent’s configuration along: the next of that name starts without', async () => {
  const cluster = new FakeCluster(deployment(), webService());
  const { intercepts } = fakeManager(cluster);
  const controller = new AbortController();
  const waiting = intercepts.ensureAgent(cluster.workload('web'), controller.signal).catch(() => undefined);
  await settled();
  assert.ok(await intercepts.configOf(cluster.workload('web')));
  cluster.remove(deployment());
  cluster.put(deployment());
  assert.equal(await intercepts.configOf(cluster.workload('web')), undefined);
  controller.abort();
  await waiting;
});

test('a manager of some namespaces asks for nothing outside of them, not even for nodes', () => {
  const asked: string[] = [];
  const part = {
    items: new Map(),
    onItemChanged: () => ({ dispose: () => undefined }),
    ready: Promise.resolve(),
    heardAtMs: () => 0,
  };
  const watch = (kind: Kind, { namespace }: { namespace?: string }) => {
    asked.push(`${kind.kind} ${namespace}`);
    return part;
  };
  const view = new ClusterView({ watch } as unknown as Kube, silentLogger, ['shop', 'bank']);
  assert.equal(view.nodes.items.size, 0);
  assert.ok(asked.includes('Pod shop') && asked.includes('StatefulSet bank'));
  assert.deepEqual(
    asked.filter((each) => each.startsWith('Node') || each.endsWith('undefined')),
    [],
  );
});
