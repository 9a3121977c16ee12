import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason } from '../../../src/base/index.ts';
import type { V1ServicePort } from '../../../src/kube/index.ts';
import { type Demand, planSidecar } from '../../../src/manager/injector/plan.ts';
import { forbiddingLevel, redirectedBy, redirectedKeys } from '../../../src/manager/injector/redirect.ts';
import { choosePort, portTargets } from '../../../src/manager/injector/targets.ts';
import { deployment, FakeCluster, planOptions, service, webContainer, webService } from './fake-cluster.ts';
import { interceptSpec } from './messages.ts';

const headless = (name: string, ports: V1ServicePort[]) => {
  const made = service(name, 'web', ports);
  return { ...made, spec: { ...made.spec, clusterIP: 'None' } };
};
const numeric = service('web', 'web', [{ name: 'http', port: 80, targetPort: 8080 }]);
const metrics = { ...webContainer, ports: [...(webContainer.ports ?? []), { name: 'metrics', containerPort: 9090 }] };

const plan = (cluster: FakeCluster, demand: Demand = {}) =>
  planSidecar(cluster.view, cluster.workload('web'), planOptions, demand);
const targetsOf = (cluster: FakeCluster) => portTargets(cluster.view, cluster.workload('web'));
const chosen = (cluster: FakeCluster, id = '', named = '') => choosePort(targetsOf(cluster), 'web', id, named);

test('a number is called as such, and so is every port of a headless service, whatever its name', () => {
  assert.equal(chosen(new FakeCluster(deployment(), numeric)).calledBy, 'number');
  const named = headless('pods', [{ name: 'http', port: 80, targetPort: 'http' }]);
  assert.equal(chosen(new FakeCluster(deployment(), named)).calledBy, 'number');
  assert.equal(chosen(new FakeCluster(deployment(), named, webService())).calledBy, 'name');
});

test('a port without a service is found by its container’s name or number, after those of services', () => {
  const alone = new FakeCluster(deployment({ containers: [metrics] }));
  assert.deepEqual([chosen(alone, 'metrics').containerPort, chosen(alone, '8080').portName], [9090, 'http']);
  assert.throws(
    () => chosen(alone),
    (error) => isReason(error, 'manager.ambiguous-port') && /http, metrics/.test(String(error)),
  );
  assert.equal(chosen(new FakeCluster(deployment({ containers: [metrics] }), webService())).containerPort, 8080);
  const taken = service('web', 'web', [{ name: 'web', port: 9090, targetPort: 'http' }]);
  assert.equal(chosen(new FakeCluster(deployment({ containers: [metrics] }), taken), '9090').containerPort, 8080);
});

test('nothing is redirected before somebody wants it: the right is not asked for in vain', () => {
  assert.deepEqual(redirectedKeys(plan(new FakeCluster(deployment(), numeric))), []);
  const wanted = plan(new FakeCluster(deployment(), numeric), { redirected: new Set(['8080/TCP']) });
  assert.deepEqual(redirectedKeys(wanted), ['8080/TCP']);
  assert.equal(wanted.containers[0]?.intercepts[0]?.targetPortNumeric, true);
});

test('with one port that is redirected all come that services lead to, and no others', () => {
  const ports = [...(metrics.ports ?? []), { containerPort: 7000 }];
  const more = service('more', 'web', [{ port: 90, targetPort: 9090 }]);
  const cluster = new FakeCluster(deployment({ containers: [{ ...metrics, ports }] }), numeric, more);
  assert.deepEqual(redirectedKeys(plan(cluster, { redirected: new Set(['8080/TCP']) })), ['8080/TCP', '9090/TCP']);
});

test('a port that is called in both ways is redirected once, and keeps its name', () => {
  const pods = headless('pods', [{ name: 'http', port: 8080, targetPort: 'http' }]);
  const cluster = new FakeCluster(deployment(), webService(), pods);
  assert.deepEqual(redirectedKeys(plan(cluster)), []);
  const { containers } = plan(cluster, { redirected: new Set(['8080/TCP']) });
  assert.deepEqual(
    containers[0]?.intercepts.map((port) => [port.serviceName, port.agentPort, port.targetPortNumeric]),
    [
      ['web', 9900, true],
      ['pods', 9900, true],
    ],
  );
});

test('a workload whose owner wants an agent gets its numbers redirected at once, where that may be', () => {
  const annotations = { 'telepresence.io/inject-traffic-agent': 'enabled' };
  const cluster = new FakeCluster(deployment({ annotations }), numeric);
  assert.deepEqual(redirectedKeys(plan(cluster)), ['8080/TCP']);
  assert.deepEqual(redirectedKeys(plan(cluster, { mayRedirect: false })), []);
});

test('a pod in the network of its node is refused', () => {
  const cluster = new FakeCluster(deployment({ hostNetwork: true }), webService());
  assert.throws(
    () => plan(cluster),
    (error) => isReason(error, 'manager.host-network'),
  );
});

test('an intercept needs a redirection for what is called by number alone', () => {
  const pods = headless('pods', [{ name: 'http', port: 8080, targetPort: 'http' }]);
  const cluster = new FakeCluster(deployment({ containers: [metrics] }), webService(), pods);
  const needs = (more: Parameters<typeof interceptSpec>[0]) => redirectedBy(interceptSpec(more), targetsOf(cluster));
  assert.deepEqual(needs({ serviceName: 'web' }), []);
  assert.deepEqual(needs({ serviceName: 'pods' }), ['8080/TCP']);
  assert.deepEqual(needs({ serviceName: 'web', podPorts: ['9090:9090'] }), ['9090/TCP']);
});

for (const [level, forbids] of [
  ['restricted', true],
  ['baseline', true],
  ['privileged', false],
  [undefined, false],
] as const) {
  test(`Pod Security ${level ?? 'without a level'} ${forbids ? 'forbids' : 'lets'} ports be redirected`, () => {
    const labels: Record<string, string> = level === undefined ? {} : { 'pod-security.kubernetes.io/enforce': level };
    assert.equal(forbiddingLevel({ metadata: { labels } }), forbids ? level : undefined);
  });
}
