import assert from 'node:assert/strict';
import { test } from 'node:test';
import { injectionPatch, type PatchOperation } from '../../../src/manager/injector/patch.ts';
import { planSidecar } from '../../../src/manager/injector/plan.ts';
import { deployment, FakeCluster, planOptions, podOf, service, webContainer, webService } from './fake-cluster.ts';
import { fakeManager } from './fake-manager.ts';
import { settled } from './hand-clock.ts';
import { agentInfo, clientInfo, interceptSpec } from './messages.ts';

const worker = {
  name: 'worker',
  image: 'worker:1',
  ports: [{ name: 'admin', containerPort: 9090 }, { containerPort: 53 }],
};
const containers = [worker, webContainer];
const never = new AbortController().signal;

/** Containers by name, after the operations. */
function applied(operations: readonly PatchOperation[]): string[] {
  const names = containers.map(({ name }) => name);
  for (const { op, path, value } of operations) {
    const at = /^\/spec\/containers\/(\d+|-)$/.exec(path)?.[1];
    if (op === 'remove' && at) {
      names.splice(Number(at), 1);
    } else if (at === '-') {
      names.push((value as { name: string }).name);
    }
  }
  return names;
}

test('the agent stands in the place of a replaced container, with all its ports at their own numbers', () => {
  const cluster = new FakeCluster(deployment({ containers }), webService());
  const config = planSidecar(cluster.view, cluster.workload('web'), planOptions, { replaced: new Set(['worker']) });
  const [first, second] = config.containers;
  assert.equal(first?.replace, 1);
  assert.deepEqual(
    first?.intercepts.map(({ containerPort, agentPort }) => [containerPort, agentPort]),
    [
      [9090, 9090],
      [53, 53],
    ],
  );
  assert.equal(second?.replace, undefined);
  const pod = podOf('web', '1');
  const operations = injectionPatch({ ...pod, spec: { containers } }, { config, image: 'i', pullPolicy: 'Always' });
  assert.deepEqual(applied(operations), ['server', 'traffic-agent']);
  const agent = operations.find(({ path }) => path === '/spec/containers/-')?.value as {
    ports: { name?: string; containerPort: number }[];
  };
  assert.deepEqual(
    agent.ports.map(({ name, containerPort }) => [name, containerPort]),
    [
      ['admin', 9090],
      [undefined, 53],
      ['http', 9900],
    ],
  );
});

function start() {
  const admin = service('admin', 'web', [{ name: 'admin', port: 9090, targetPort: 9090 }]);
  const cluster = new FakeCluster(deployment({ containers }), webService(), admin, podOf('web', '1'));
  const parts = fakeManager(cluster);
  const client = parts.store.addClient('ann', clientInfo());
  const replaced = async (): Promise<string[]> =>
    ((await parts.intercepts.configOf(cluster.workload('web')))?.containers ?? [])
      .filter(({ replace }) => replace === 1)
      .map(({ name }) => name);
  return { ...parts, cluster, client, replaced };
}

const whole = interceptSpec({
  name: 'web/worker',
  replace: true,
  noDefaultPort: true,
  containerName: 'worker',
  portIdentifier: '',
});

test('a container is taken away for as long as somebody replaces it', async () => {
  const { clock, store, intercepts, client, replaced, cluster } = start();
  clock.advance(60_000);
  const creating = intercepts.create(client, whole, never);
  await settled();
  assert.deepEqual(await replaced(), ['worker'], 'before the first agent comes, and whatever else happens meanwhile');
  store.addAgent('agent:1', agentInfo());
  const config = JSON.stringify(await intercepts.configOf(cluster.workload('web')));
  cluster.put(podOf('web', '1', { config }));
  const { spec } = await creating;
  assert.deepEqual(spec?.podPorts, ['9090:9090', '53:53']);
  assert.deepEqual(await replaced(), ['worker']);
  const before = cluster.calls.length;
  intercepts.remove(client, 'web/worker');
  await settled();
  assert.deepEqual(await replaced(), []);
  assert.ok(cluster.calls.length > before, 'the pods get their container back');
});

test('after a restart of the manager a replaced container waits for its client before it comes back', async () => {
  const { clock, intercepts, cluster, replaced, store } = start();
  const config = planSidecar(cluster.view, cluster.workload('web'), planOptions, { replaced: new Set(['worker']) });
  cluster.put(podOf('web', '1', { config: JSON.stringify(config) }));
  intercepts.relearn();
  store.addClient('bob', clientInfo());
  assert.deepEqual(await replaced(), ['worker']);
  clock.advance(31_000);
  await settled();
  assert.deepEqual(await replaced(), []);
});

test('of several containers the one to replace has to be named', async () => {
  const { intercepts, client } = start();
  const { error } = await intercepts.prepare(client, { ...whole, containerName: '' });
  assert.match(error, /several containers: worker, server/);
});
