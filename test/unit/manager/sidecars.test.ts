import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger, isReason, type LogLine } from '../../../src/base/index.ts';
import { redirectedKeys } from '../../../src/manager/injector/redirect.ts';
import type { InjectPolicy } from '../../../src/manager/options.ts';
import { Sidecars } from '../../../src/manager/service/sidecars.ts';
import { Store } from '../../../src/manager/state/store.ts';
import { deployment, FakeCluster, planOptions, podOf, service, webService } from './fake-cluster.ts';
import { HandClock, settled } from './hand-clock.ts';
import { agentInfo, interceptSpec } from './messages.ts';

const never = new AbortController().signal;
const numeric = () => service('web', 'web', [{ name: 'http', port: 80, targetPort: 8080 }]);
const annotated = (name: string, value: string) => deployment({ annotations: { [name]: value } });
const inject = 'telepresence.io/inject-traffic-agent';

function start(cluster: FakeCluster, policy: InjectPolicy = 'OnDemand') {
  const clock = new HandClock();
  const store = new Store(clock, 'install');
  const lines: LogLine[] = [];
  const { kube, view } = cluster;
  const log = createLogger({ sink: (line) => lines.push(line), wallMs: () => 0 });
  const sidecars = new Sidecars({ kube, view, store, clock, plan: planOptions, policy, log });
  const web = () => cluster.workload('web');
  return { clock, store, sidecars, web, lines };
}

/** Time passes, and what it decides happens. */
async function pass(clock: HandClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 500) {
    clock.advance(500);
    await settled();
  }
}

for (const [policy, annotations, gets] of [
  ['OnDemand', {}, true],
  ['WhenEnabled', {}, false],
  ['WhenEnabled', { [inject]: 'enabled' }, true],
  ['Never', { [inject]: 'enabled' }, false],
] as const) {
  const said = Object.values(annotations)[0] ?? 'nothing';
  test(`${policy}, and the annotation says ${said}: ${gets ? 'an agent' : 'a refusal, and no pod changes'}`, async () => {
    const cluster = new FakeCluster(deployment({ annotations }), webService(), podOf('web', '1'));
    const { sidecars, web, store } = start(cluster, policy);
    const asked = Promise.allSettled([sidecars.ensureAgent(web(), never)]);
    await settled();
    store.addAgent('agent:1', agentInfo());
    const [outcome] = await asked;
    assert.equal(outcome?.status, gets ? 'fulfilled' : 'rejected');
    assert.equal(isReason((outcome as { reason?: unknown }).reason, 'manager.injection-off'), !gets);
    assert.equal(cluster.calls.length, gets ? 1 : 0);
    assert.equal((await sidecars.configOf(web())) !== undefined, gets);
  });
}

test('an agent that is part of the manifest is waited for, and neither injected nor re-created', async () => {
  const manual = annotated('telepresence.io/manually-injected', 'true');
  const cluster = new FakeCluster(manual, webService(), podOf('web', '1'));
  const { sidecars, web, store } = start(cluster);
  store.addAgent('agent:1', agentInfo());
  await sidecars.ensureAgent(web(), never);
  assert.equal(await sidecars.configOf(web()), undefined);
  assert.deepEqual(cluster.calls, []);
});

test('annotations of the prefix of before are told to the log, once', async () => {
  const cluster = new FakeCluster(
    annotated('telepresence.getambassador.io/inject-traffic-agent', 'enabled'),
    webService(),
  );
  const { sidecars, web, lines } = start(cluster);
  assert.ok(await sidecars.configOf(web()));
  await sidecars.configOf(web());
  assert.equal(lines.filter(({ level }) => level === 'warn').length, 1);
});

test('what was redirected for one who is gone stays so: no pod is re-created for the next one', async () => {
  const cluster = new FakeCluster(deployment(), numeric(), podOf('web', '1'));
  const { sidecars, web, store } = start(cluster);
  store.addAgent('agent:1', agentInfo());
  await sidecars.ensureAgent(web(), never, interceptSpec({ serviceName: 'web' }));
  const config = await sidecars.configOf(web());
  assert.deepEqual(redirectedKeys(config), ['8080/TCP']);
  cluster.put(podOf('web', '1', { config: JSON.stringify(config) }));
  const before = cluster.calls.length;
  await sidecars.ensureAgent(web(), never);
  assert.deepEqual(redirectedKeys(await sidecars.configOf(web())), ['8080/TCP']);
  assert.equal(cluster.calls.length, before);
});

test('pods whose agent does not come become again what they were', async () => {
  const cluster = new FakeCluster(deployment(), webService(), podOf('web', '1'));
  const { sidecars, web, clock } = start(cluster);
  const failed = assert.rejects(sidecars.ensureAgent(web(), never), (error) =>
    isReason(error, 'manager.agent-did-not-arrive'),
  );
  await settled();
  cluster.put(podOf('web', '2', { isReady: false, config: JSON.stringify(await sidecars.configOf(web())) }));
  await pass(clock, 31_000);
  await failed;
  assert.equal(await sidecars.configOf(web()), undefined);
  assert.deepEqual(cluster.calls, ['patch Deployment web strategic', 'patch Deployment web strategic']);
});

test('what fails later leaves the configuration with which an agent came before', async () => {
  const cluster = new FakeCluster(deployment(), numeric(), podOf('web', '1'));
  const { sidecars, web, store, clock } = start(cluster);
  store.addAgent('agent:1', agentInfo());
  await sidecars.ensureAgent(web(), never);
  store.remove('agent:1');
  const failed = assert.rejects(sidecars.ensureAgent(web(), never, interceptSpec({ serviceName: 'web' })));
  await settled();
  await pass(clock, 31_000);
  await failed;
  assert.deepEqual(redirectedKeys(await sidecars.configOf(web())), []);
});

test('who waits for an agent gets the one that a later attachment asked more of', async () => {
  const cluster = new FakeCluster(deployment(), numeric(), podOf('web', '1'));
  const { sidecars, web, store } = start(cluster);
  const first = sidecars.ensureAgent(web(), never);
  await settled();
  const second = sidecars.ensureAgent(web(), never, interceptSpec({ serviceName: 'web' }));
  await settled();
  const config = await sidecars.configOf(web());
  assert.deepEqual(redirectedKeys(config), ['8080/TCP']);
  const pod = podOf('web', '2', { config: JSON.stringify(config) });
  const initContainerStatuses = [{ name: 'tel-agent-init', state: { terminated: { exitCode: 0 } } }];
  cluster.put({ ...pod, status: { ...pod.status, initContainerStatuses } } as typeof pod);
  store.addAgent('agent:2', agentInfo({ podName: 'web-abc-2', podUid: 'uid-web-2' }));
  await Promise.all([first, second]);
});
