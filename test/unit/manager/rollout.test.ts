import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { isReason, NearfieldError, silentLogger } from '../../../src/base/index.ts';
import type { KubeObject } from '../../../src/kube/index.ts';
import { type Demand, planSidecar } from '../../../src/manager/injector/plan.ts';
import { waitForAgent } from '../../../src/manager/rollout/arrival.ts';
import { recreateWithAgent } from '../../../src/manager/rollout/missed.ts';
import { recreatePods } from '../../../src/manager/rollout/rollout.ts';
import { Store } from '../../../src/manager/state/store.ts';
import type { SidecarConfig } from '../../../src/protocol/index.ts';
import { deployment, FakeCluster, planOptions, podOf, service, webService } from './fake-cluster.ts';
import { HandClock, settled } from './hand-clock.ts';
import { agentInfo } from './messages.ts';

let clock: HandClock;
let store: Store;
const never = new AbortController().signal;

beforeEach(() => {
  clock = new HandClock();
  store = new Store(clock, 'install');
});

/** One pod of a StatefulSet named as the Deployment is. */
function statefulSet() {
  const pod = podOf('web', '0');
  const owner = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'web', uid: 's', controller: true };
  return {
    set: { ...deployment(), kind: 'StatefulSet' },
    pod: { ...pod, metadata: { ...pod.metadata, name: 'web-0', ownerReferences: [owner] } },
  };
}

function start(cluster: FakeCluster, demand: Demand = {}) {
  const deps = { kube: cluster.kube, view: cluster.view, store, clock, log: silentLogger };
  const config = planSidecar(cluster.view, cluster.workload('web'), planOptions, demand);
  return {
    config,
    inject: (isWanted = () => true) =>
      recreateWithAgent(deps, { workload: cluster.workload('web'), config, isWanted }, never),
    recreate: (wanted: SidecarConfig | undefined = config) =>
      recreatePods(deps, cluster.workload('web'), wanted, never),
    wait: (signal?: AbortSignal) => waitForAgent(deps, cluster.workload('web'), () => config, signal),
  };
}

/** Time passes, and what it decides happens. */
async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 100) {
    clock.advance(100);
    await settled();
  }
}

test('the only pod of a Deployment is replaced by a rolling update, never evicted', async () => {
  const cluster = new FakeCluster(deployment(), webService(), podOf('web', '1'));
  await start(cluster).recreate();
  assert.deepEqual(cluster.calls, ['patch Deployment web strategic']);
});

test('pods that match already are left alone', async () => {
  const cluster = new FakeCluster(deployment(), webService());
  const { config, recreate } = start(cluster);
  cluster.put(podOf('web', '1', { config: JSON.stringify(config) }));
  await recreate();
  assert.deepEqual(cluster.calls, []);
});

test('to take the agent out, the pods that have one are replaced', async () => {
  const cluster = new FakeCluster(deployment(), webService(), podOf('web', '1', { config: '{}' }));
  const deps = { kube: cluster.kube, view: cluster.view, store, clock, log: silentLogger };
  await recreatePods(deps, cluster.workload('web'), undefined, never);
  assert.deepEqual(cluster.calls, ['patch Deployment web strategic']);
});

test('of several pods one is evicted at a time, and only while another one is ready', async () => {
  const [one, two] = [podOf('web', '1'), podOf('web', '2')];
  const cluster = new FakeCluster(deployment({ replicas: 2 }), webService(), one, two);
  const { config, recreate } = start(cluster);
  const done = recreate();
  await pass(200);
  assert.deepEqual(cluster.calls, ['evict web-abc-1']);
  cluster.remove(one);
  cluster.put(podOf('web', '3', { isReady: false, config: JSON.stringify(config) }));
  await pass(2_000);
  assert.deepEqual(cluster.calls, ['evict web-abc-1'], 'the successor is not ready yet');
  cluster.put(podOf('web', '3', { config: JSON.stringify(config) }));
  await pass(1_000);
  assert.deepEqual(cluster.calls, ['evict web-abc-1', 'evict web-abc-2']);
  cluster.remove(two);
  await pass(500);
  await done;
});

test('a disruption budget that says no is asked again', async () => {
  const one = podOf('web', '1');
  const cluster = new FakeCluster(deployment({ replicas: 2 }), webService(), one, podOf('web', '2'));
  cluster.eviction = 'blocked';
  void start(cluster).recreate();
  await pass(1_000);
  assert.ok(cluster.calls.length >= 2 && cluster.calls.every((call) => call === 'evict web-abc-1'));
});

test('a Deployment whose budget lets no pod go is updated in the Deployment’s own way', async () => {
  const cluster = new FakeCluster(deployment({ replicas: 2 }), webService(), podOf('web', '1'), podOf('web', '2'));
  cluster.eviction = 'blocked';
  const done = start(cluster).recreate();
  await pass(3_000);
  await done;
  assert.equal(cluster.calls.at(-1), 'patch Deployment web strategic');
});

test('another workload whose budget lets no pod go is refused, and nothing of it has changed', async () => {
  const { set, pod } = statefulSet();
  const cluster = new FakeCluster(set, webService(), pod);
  cluster.eviction = 'blocked';
  const refused = assert.rejects(start(cluster).recreate(), (error) => isReason(error, 'manager.eviction-refused'));
  await pass(9_000);
  await refused;
  assert.ok(cluster.calls.every((call) => call === 'evict web-0'));
});

test('the wait for an agent ends with its arrival', async () => {
  const cluster = new FakeCluster(deployment(), webService());
  const wait = start(cluster).wait();
  await settled();
  store.addAgent('agent:1', agentInfo());
  await wait;
  assert.equal(clock.timers, 0);
});

test('an agent of a pod that is about to be replaced is not the one that is waited for', async () => {
  const cluster = new FakeCluster(deployment(), webService(), podOf('web', '1', { config: '{}' }));
  const { wait, config } = start(cluster);
  let isHere = false;
  const waiting = wait().then(() => {
    isHere = true;
  });
  store.addAgent('agent:old', agentInfo({ podName: 'web-abc-1', podUid: 'uid-web-1' }));
  await settled();
  assert.equal(isHere, false);
  cluster.put(podOf('web', '2', { config: JSON.stringify(config) }));
  store.addAgent('agent:new', agentInfo({ podName: 'web-abc-2', podUid: 'uid-web-2' }));
  await waiting;
});

test('when the cluster makes no pod any more, the wait ends at once with its reason', async () => {
  const cluster = new FakeCluster(deployment(), webService());
  const failed = assert.rejects(start(cluster).wait(), /arrived in time: pods "web-x" is forbidden: exceeded quota/);
  const conditions = [{ type: 'ReplicaFailure', status: 'True', message: 'pods "web-x" is forbidden: exceeded quota' }];
  cluster.put({ ...deployment(), status: { conditions } } as KubeObject);
  await failed;
});

for (const [message, outcome] of [
  ['', 'resolves'],
  ['the node’s kernel refuses', 'rejects'],
] as const) {
  test(`an init container that ends ${message ? 'with a complaint' : 'in silence'} ${outcome} the wait`, async () => {
    const numeric = service('web', 'web', [{ name: 'http', port: 80, targetPort: 8080 }]);
    const cluster = new FakeCluster(deployment(), numeric);
    const { config, wait } = start(cluster, { redirected: new Set(['8080/TCP']) });
    const pod = podOf('web', '2', { config: JSON.stringify(config) });
    cluster.put(pod);
    store.addAgent('agent:new', agentInfo({ podName: 'web-abc-2', podUid: 'uid-web-2' }));
    const waiting = Promise.allSettled([wait()]);
    await settled();
    const state = { terminated: { exitCode: 0, ...(message ? { message } : {}) } };
    cluster.put({ ...pod, status: { initContainerStatuses: [{ name: 'tel-agent-init', state }] } } as typeof pod);
    const [settledWait] = await waiting;
    assert.equal(settledWait?.status, message ? 'rejected' : 'fulfilled');
    assert.equal(isReason((settledWait as { reason?: unknown }).reason, 'manager.redirect-failed'), message !== '');
  });
}

test('when no agent comes in time, the error says what keeps the pods from starting', async () => {
  const pod = podOf('web', '1', { isReady: false });
  const cluster = new FakeCluster(deployment(), webService(), {
    ...pod,
    status: {
      phase: 'Pending',
      conditions: [{ type: 'PodScheduled', status: 'False', message: '0/1 nodes are available' }],
      containerStatuses: [{ name: 'server', state: { waiting: { reason: 'ImagePullBackOff' } } }],
    },
  } as typeof pod);
  const wait = start(cluster).wait();
  const failed = assert.rejects(
    wait,
    (error) =>
      isReason(error, 'manager.agent-did-not-arrive') &&
      /0\/1 nodes are available; ImagePullBackOff/.test((error as NearfieldError).message),
  );
  await pass(30_000);
  await failed;
});

test('a caller that gives up ends the wait as cancelled', async () => {
  const controller = new AbortController();
  const wait = start(new FakeCluster(deployment(), webService())).wait(controller.signal);
  controller.abort();
  await assert.rejects(wait, (error) => error instanceof NearfieldError && error.code === 'cancelled');
});

test('a pod whose configuration has its keys in another order is not replaced', async () => {
  const cluster = new FakeCluster(deployment(), webService());
  const { config, recreate } = start(cluster);
  const reordered = Object.fromEntries(Object.entries(config).reverse());
  cluster.put(podOf('web', '1', { config: JSON.stringify(reordered) }));
  await recreate();
  assert.deepEqual(cluster.calls, []);
});

/** As the Deployment's controller does: what the template made before goes, and one of now comes. */
function rollOut(cluster: FakeCluster, suffix: string, config?: SidecarConfig): void {
  const old = [...cluster.view.pods.items.values()];
  cluster.put(podOf('web', suffix, config ? { config: JSON.stringify(config) } : {}));
  for (const pod of old) {
    cluster.remove(pod as KubeObject);
  }
}

test('a pod that came without its agent, as the injector could not be asked yet, is re-created', async () => {
  const cluster = new FakeCluster(deployment(), webService(), podOf('web', '1'));
  const { inject, config } = start(cluster);
  let rollouts = 0;
  cluster.reaction = () => {
    rollouts++;
    rollOut(cluster, `${rollouts + 1}`, rollouts === 3 ? config : undefined);
  };
  const done = inject();
  await pass(5_000);
  await done;
  assert.equal(rollouts, 3);
  assert.equal(clock.timers, 0);
});

test('of an injector that is never asked a workload is not rolled out for ever, and the wait says why', async () => {
  const cluster = new FakeCluster(deployment(), webService(), podOf('web', '1'));
  const { inject, wait } = start(cluster);
  let rollouts = 0;
  cluster.reaction = () => rollOut(cluster, `${++rollouts + 1}`);
  const failed = assert.rejects(wait(), /the API server does not reach the agent-injector/);
  const done = inject();
  await pass(31_000);
  await Promise.all([done, failed]);
  assert.equal(rollouts, 4);
});

test('what came without its agent stays as it is once nobody wants one any more', async () => {
  const cluster = new FakeCluster(deployment(), webService(), podOf('web', '1'));
  const { inject } = start(cluster);
  cluster.reaction = () => rollOut(cluster, '2');
  const done = inject(() => cluster.calls.length === 0);
  await pass(5_000);
  await done;
  assert.equal(cluster.calls.length, 1);
});

test('the only pod of a StatefulSet is not taken for missed while there is none', async () => {
  const { set, pod } = statefulSet();
  const cluster = new FakeCluster(set, webService(), pod);
  const { inject, config } = start(cluster);
  cluster.reaction = () => cluster.remove(pod);
  let isDone = false;
  const done = inject().then(() => {
    isDone = true;
  });
  await pass(2_000);
  assert.equal(isDone, false);
  const annotations = { 'telepresence.io/agent-config': JSON.stringify(config) };
  cluster.put({ ...pod, metadata: { ...pod.metadata, uid: 'next', annotations } } as typeof pod);
  await done;
  assert.deepEqual(cluster.calls, ['evict web-0']);
});
