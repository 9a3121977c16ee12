import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { silentLogger, systemClock } from '../../src/base/index.ts';
import { ConnectorCore } from '../../src/connector/core.ts';
import type { V1Pod } from '../../src/kube/index.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { stateFolder } from './paths.ts';
import { waitFor } from './shell.ts';

// What the owner of an installation and the owner of a workload say about agents, and that it is done.
const limit = { timeout: 240_000 };
const namespace = 'injection';
const settleMs = 120_000;
const resources = { requests: { cpu: '15m', memory: '70Mi' }, limits: { memory: '300Mi' } };
let cluster: Cluster;
let core: ConnectorCore;

const install = (options: object): Promise<void> => core.install({ kubeconfig: cluster.kubeconfig, options });

/** Called by number, so that an agent needs its init container too. */
function workload(name: string, annotations: Record<string, string>, pod: object = {}): object[] {
  const metadata = { name, namespace };
  const labels = { app: name };
  const server = {
    name: 'server',
    image: 'docker.io/nearfield/samples:1',
    imagePullPolicy: 'IfNotPresent',
    ports: [{ containerPort: 8080 }],
  };
  const spec = { terminationGracePeriodSeconds: 1, ...pod, containers: [server] };
  return [
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: { selector: { matchLabels: labels }, template: { metadata: { labels, annotations }, spec } },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: { selector: labels, ports: [{ port: 80, targetPort: 8080 }] },
    },
  ];
}

const apply = async (items: object[]): Promise<void> => {
  const file = join(stateFolder, 'injection.json');
  await writeFile(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  await cluster.kubectl('apply', '-f', file);
};

async function podOf(name: string): Promise<V1Pod> {
  return waitFor(`a pod of ${name}`, settleMs, async () => {
    const text = await cluster.kubectl('-n', namespace, 'get', 'pods', '-l', `app=${name}`, '-o', 'json');
    return (JSON.parse(text) as { items: V1Pod[] }).items[0];
  });
}

const attach = (name: string): Promise<unknown> => core.attach({ workload: name, namespace, ports: [{ local: 1 }] });

before(async () => {
  cluster = await openCluster();
  core = new ConnectorCore({ clock: systemClock, log: silentLogger });
  await install({
    agentInjector: { injectPolicy: 'WhenEnabled' },
    agent: { resources },
    image: { pullSecrets: [{ name: 'registry' }] },
  });
  await apply([
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
    ...workload('wanted', { 'telepresence.getambassador.io/inject-traffic-agent': 'enabled' }),
    ...workload('plain', {}),
    ...workload('host', { 'telepresence.io/inject-traffic-agent': 'enabled' }, { hostNetwork: true }),
  ]);
  await core.connect({ kubeconfig: cluster.kubeconfig, namespace });
}, limit);

after(async () => {
  await core?.disconnect();
  await core?.uninstall({ kubeconfig: cluster.kubeconfig, evenWithAgents: true });
  await core?.dispose();
  await cluster?.kubectl('delete', 'namespace', namespace, '--wait=false').catch(() => undefined);
}, limit);

test(
  'a pod whose owner wants it has its agent from the beginning, with what the installation says about agents',
  limit,
  async () => {
    const { spec } = await podOf('wanted');
    assert.deepEqual(spec?.containers.find(({ name }) => name === 'traffic-agent')?.resources, resources);
    assert.deepEqual(
      spec?.initContainers?.map(({ name, resources: used }) => [name, used]),
      [['tel-agent-init', resources]],
    );
    assert.deepEqual(spec?.imagePullSecrets, [{ name: 'registry' }]);
  },
);

test('with WhenEnabled nobody else gets one, and attaching says why', limit, async () => {
  assert.equal((await podOf('plain')).spec?.containers.length, 1);
  await assert.rejects(attach('plain'), /gets no traffic-agent.*inject-traffic-agent: enabled/);
});

test('a pod in the network of its node stays as it is, and attaching says why', limit, async () => {
  const { spec } = await podOf('host');
  assert.deepEqual([spec?.containers.length, spec?.initContainers], [1, undefined]);
  await assert.rejects(attach('host'), /in the network of their nodes/);
});

test('with Never not even who wants one gets one', limit, async () => {
  await core.disconnect();
  await install({ agentInjector: { injectPolicy: 'Never' } });
  await apply(workload('late', { 'telepresence.io/inject-traffic-agent': 'enabled' }));
  assert.equal((await podOf('late')).spec?.containers.length, 1);
  await core.connect({ kubeconfig: cluster.kubeconfig, namespace });
  await assert.rejects(attach('late'), /gets no traffic-agent: the installation injects none/);
});

test('a namespace has agents once it has the label that the installation asks for', limit, async () => {
  await core.disconnect();
  await install({ namespaceSelector: { matchLabels: { team: 'blue' } } });
  await core.connect({ kubeconfig: cluster.kubeconfig, namespace });
  await assert.rejects(attach('plain'), /does not work in namespace injection.*label the namespace/);
  assert.deepEqual(core.snapshot.namespaces.find(({ name }) => name === namespace)?.workloads, []);
  await cluster.kubectl('label', 'namespace', namespace, 'team=blue');
  await attach('plain');
  await waitFor('a pod with its agent', settleMs, async () => {
    const names = await cluster.kubectl('-n', namespace, 'get', 'pods', '-l', 'app=plain', '-o', 'jsonpath={..name}');
    return names.includes('traffic-agent') ? true : undefined;
  });
  await waitFor('the workloads', settleMs, async () =>
    core.snapshot.namespaces.find(({ name }) => name === namespace)?.workloads.length === 0 ? undefined : true,
  );
});
