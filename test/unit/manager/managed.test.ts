import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'valibot';
import { isReason, silentLogger } from '../../../src/base/index.ts';
import type { KubeObject } from '../../../src/kube/index.ts';
import { ManagedNamespaces } from '../../../src/manager/cluster/managed.ts';
import { WorkloadBoards } from '../../../src/manager/service/boards.ts';
import { Intercepts } from '../../../src/manager/service/intercepts.ts';
import { Store } from '../../../src/manager/state/store.ts';
import { labelSelectorSchema, type wire } from '../../../src/protocol/index.ts';
import { deployment, FakeCluster, planOptions, webService } from './fake-cluster.ts';
import { HandClock, settled } from './hand-clock.ts';

const namespace = (labels: Record<string, string>): KubeObject =>
  ({ kind: 'Namespace', metadata: { name: 'shop', labels } }) as KubeObject;

function start(labels: Record<string, string>) {
  const cluster = new FakeCluster(deployment(), webService());
  // The fake finds what is in no namespace by its name alone.
  cluster.put(namespace(labels));
  const clock = new HandClock();
  const selector = parse(labelSelectorSchema, { matchLabels: { team: 'blue' } });
  const managed = new ManagedNamespaces({ kube: cluster.kube, clock, log: silentLogger, selector });
  return { cluster, clock, managed };
}

test('in a namespace with the label one may attach, and in one without it the refusal says why', async () => {
  for (const [labels, isManaged] of [
    [{ team: 'blue' }, true],
    [{}, false],
  ] as const) {
    const { cluster, clock, managed } = start(labels);
    const { kube, view } = cluster;
    const store = new Store(clock, 'install');
    const deps = { kube, view, store, clock, managed, plan: planOptions, log: silentLogger };
    const intercepts = new Intercepts({ ...deps, isListening: () => true });
    const [found] = await Promise.allSettled([intercepts.find('web', 'shop')]);
    assert.equal(found?.status, isManaged ? 'fulfilled' : 'rejected');
    assert.equal(isReason((found as { reason?: unknown }).reason, 'manager.not-managed'), !isManaged);
    intercepts.dispose();
    managed.dispose();
  }
});

test('who watches the workloads sees them come when the namespace gets the label, and go with it', async () => {
  const { cluster, clock, managed } = start({});
  const store = new Store(clock, 'install');
  const boards = new WorkloadBoards({ view: cluster.view, store, managed, onChanged: managed.onChanged });
  const controller = new AbortController();
  const watch = boards.watch('shop', [controller.signal]);
  const names = async (): Promise<string[]> => {
    const { value } = await watch.next();
    return ((value?.events ?? []) as wire.WorkloadEvent[]).map(({ type, workload }) => `${type} ${workload?.name}`);
  };
  assert.deepEqual(await names(), []);
  for (const [labels, expected] of [
    [{ team: 'blue' }, ['0 web']],
    [{}, ['2 web']],
  ] as const) {
    cluster.put(namespace(labels));
    const seen = names();
    clock.advance(30_000);
    await settled();
    assert.deepEqual(await seen, expected);
  }
  controller.abort();
  managed.dispose();
  assert.equal(clock.timers, 0);
});

test('a namespace that cannot be looked at stays what it was', async () => {
  const { cluster, clock, managed } = start({ team: 'blue' });
  assert.equal(managed.has('shop'), false, 'nobody has asked yet');
  await settled();
  assert.equal(managed.has('shop'), true);
  cluster.kube.get = () => Promise.reject(new Error('the API server is away'));
  clock.advance(30_000);
  await settled();
  assert.equal(managed.has('shop'), true);
  managed.dispose();
});

test('without a selector every namespace is managed, and none is asked about', async () => {
  const cluster = new FakeCluster();
  cluster.kube.get = () => assert.fail('asked');
  const managed = new ManagedNamespaces({
    ...{ kube: cluster.kube, clock: new HandClock(), log: silentLogger, selector: undefined },
  });
  assert.equal(managed.has('any'), true);
  assert.equal(await managed.ask('any'), true);
});
