import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { isReason, silentLogger, systemClock } from '../../src/base/index.ts';
import { ConnectorCore } from '../../src/connector/core.ts';
import { helmBinary } from './cache.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';
import { run, waitFor } from './shell.ts';

// A life of an installation: made, compared, changed, used, and gone without a trace.
const limit = { timeout: 300_000 };
const managerNamespace = 'nearfield-install';
const work = 'nearfield-install-work';
let cluster: Cluster;
let core: ConnectorCore;
let folder: string;
const steps = new Set<string>();
const request = () => ({ kubeconfig: cluster.kubeconfig, managerNamespace });

/** Two pods that somebody may attach to: their traffic-agent is asked for by the usual annotation. */
const workload = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: ${work}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {telepresence.io/inject-traffic-agent: enabled}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: server
          image: docker.io/nearfield/samples:1
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: ${work}}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
`;

/** Everything an installation may leave, by name; pods of others come and go, and so do their replica sets. */
async function everything(): Promise<string[]> {
  const kinds =
    'all,mutatingwebhookconfigurations,clusterroles,clusterrolebindings,roles,rolebindings,crd,secrets,networkpolicies,serviceaccounts,configmaps,namespaces';
  const text = await cluster.kubectl(
    'get',
    kinds,
    '-A',
    '-o',
    'jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\\n"}{end}',
  );
  const passing = /^(Pod|ReplicaSet|Event) /;
  return text
    .split('\n')
    .filter((line) => line !== '' && !passing.test(line))
    .sort();
}

before(async () => {
  cluster = await openCluster();
  folder = await mkdtemp(join(tmpdir(), 'nearfield-install-'));
  core = new ConnectorCore({ clock: systemClock, log: silentLogger });
  core.onSnapshotChanged(({ installing }) => installing && steps.add(installing.step));
  // Another traffic-manager for the whole cluster would give the pods here agents of its own.
  await core.uninstall({ kubeconfig: cluster.kubeconfig, evenWithAgents: true });
  await cluster.kubectl('create', 'namespace', work);
}, limit);

after(async () => {
  await core?.uninstall({ ...request(), evenWithAgents: true }).catch(() => undefined);
  await core?.dispose();
  await cluster?.kubectl('delete', 'namespace', work, managerNamespace, '--ignore-not-found', '--wait=false');
  await rm(folder, { recursive: true, force: true });
}, limit);

const until = (what: string, check: () => Promise<boolean>): Promise<true> =>
  waitFor(what, 60_000, async () => (await check()) || undefined);

const agents = async (): Promise<number> =>
  (await cluster.kubectl('-n', work, 'get', 'pods', '-o', 'jsonpath={.items[*].spec.containers[*].name}'))
    .split(' ')
    .filter((name) => name === 'traffic-agent').length;
const ready = (): Promise<string> => cluster.kubectl('-n', work, 'rollout', 'status', 'deploy/web', '--timeout=90s');

/** Puts the agent's workload there, waits for its agents, and takes it away again. */
async function withAgents(use: () => Promise<void>): Promise<void> {
  const path = join(folder, 'web.yaml');
  await writeFile(path, workload);
  await cluster.kubectl('apply', '-f', path);
  await ready();
  // The API server takes a second or two to call a new webhook: who was quicker gets the agent with the next roll-out.
  await cluster.kubectl('-n', work, 'rollout', 'restart', 'deploy/web');
  await ready();
  try {
    await until('both agents', async () => (await agents()) === 2);
    await use();
  } finally {
    await cluster.kubectl('delete', '-f', path);
  }
}

test('installed, used by pods, and removed: the cluster is as it was before', limit, async () => {
  const before = await everything();
  const preview = await core.previewInstall(request());
  assert.ok(preview.changes.every(({ action }) => action === 'create'));
  assert.deepEqual(await everything(), before);
  await core.install(request());
  assert.deepEqual((await core.previewInstall(request())).changes, []);
  await withAgents(async () => {
    await core.uninstall(request());
    await ready();
    assert.equal(await agents(), 0);
  });
  assert.deepEqual(await everything(), before);
  assert.ok(
    [...steps].some((step) => step.startsWith('waiting for 2 pods')) || steps.has('removing the traffic-agents'),
  );
});

test('with rights in one namespace only, and a network policy, agents arrive there and only there', limit, async () => {
  const options = { namespaces: [work], networkPolicy: true };
  await core.install({ ...request(), options });
  await withAgents(async () => {
    const account = `--as=system:serviceaccount:${managerNamespace}:traffic-manager`;
    const can = (...what: string[]): Promise<string> =>
      cluster.kubectl('auth', 'can-i', account, ...what).catch(String);
    assert.match(await can('list', 'pods', '-n', work), /^yes/);
    assert.doesNotMatch(await can('list', 'pods', '-n', 'service-a-ns'), /^yes/);
    assert.doesNotMatch(await can('get', 'secrets', '-n', work), /^yes/);
  });
  const denied = (await cluster.kubectl('-n', managerNamespace, 'logs', 'deploy/traffic-manager'))
    .split('\n')
    .filter((line) => /forbidden/i.test(line));
  assert.deepEqual(denied, []);
  await core.uninstall(request());
});

test('a change by hand is a conflict that names the field, until it is taken over', limit, async () => {
  await core.install(request());
  const log = '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":9}}}}';
  await cluster.kubectl(
    '-n',
    managerNamespace,
    'patch',
    'deploy',
    'traffic-manager',
    '--field-manager',
    'somebody',
    '-p',
    log,
  );
  await assert.rejects(core.install(request()), (error: Error) => {
    assert.ok(isReason(error, 'connector.install-conflict'));
    assert.match(error.message, /somebody.*terminationGracePeriodSeconds/s);
    return true;
  });
  const { text } = await core.previewInstall({ ...request(), takeOver: true });
  assert.match(text, /^-\s+terminationGracePeriodSeconds: 9\n\+\s+terminationGracePeriodSeconds: 3$/m);
  await core.install({ ...request(), takeOver: true });
  await core.uninstall(request());
});

test(
  'helm installs the chart, nearfield leaves it alone, and helm uninstall removes the agents too',
  limit,
  async () => {
    const before = await everything();
    const helm = await helmBinary();
    const call = (...args: string[]): Promise<string> =>
      run(helm, [...args, '--namespace', managerNamespace, '--kubeconfig', cluster.kubeconfig], { timeoutMs: 240_000 });
    await call('install', 'nearfield', join(repositoryRoot, 'charts/nearfield'), '--create-namespace', '--wait');
    await assert.rejects(core.uninstall(request()), (error: unknown) => isReason(error, 'connector.installed-by-helm'));
    await withAgents(async () => {
      await call('uninstall', 'nearfield', '--wait');
      await ready();
      await until('no agent', async () => (await agents()) === 0);
    });
    await cluster.kubectl('delete', 'namespace', managerNamespace);
    assert.deepEqual(await everything(), before);
  },
);

test('a traffic-manager of somebody else is left alone', limit, async () => {
  const path = join(folder, 'stock.yaml');
  await writeFile(
    path,
    `apiVersion: v1
kind: Namespace
metadata: {name: ${managerNamespace}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: traffic-manager, namespace: ${managerNamespace}, labels: {app: traffic-manager}}
spec:
  replicas: 0
  selector: {matchLabels: {app: traffic-manager}}
  template:
    metadata: {labels: {app: traffic-manager}}
    spec: {containers: [{name: traffic-manager, image: 'ghcr.io/telepresenceio/tel2:2.31.0'}]}
`,
  );
  await cluster.kubectl('apply', '-f', path);
  const isForeign = (error: unknown): boolean => isReason(error, 'connector.foreign-manager');
  await assert.rejects(core.previewInstall(request()), isForeign);
  await assert.rejects(core.install({ ...request(), takeOver: true }), isForeign);
  await assert.rejects(core.uninstall(request()), isForeign);
  await cluster.kubectl('delete', '-f', path);
});
