import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason, silentLogger } from '../../../../src/base/index.ts';
import { installManager } from '../../../../src/connector/install/install.ts';
import { ours } from '../../../../src/connector/install/names.ts';
import { readInstallOptions } from '../../../../src/connector/install/options.ts';
import { describeChanges, planInstall } from '../../../../src/connector/install/plan.ts';
import { uninstallManager } from '../../../../src/connector/install/uninstall.ts';
import { forbidden } from '../../../../src/kube/errors.ts';
import { HandClock } from '../../manager/hand-clock.ts';
import { FakeApi } from './fake-api.ts';

const fails = (reason: string) => (error: unknown) => isReason(error, reason);
const plain = readInstallOptions({});

/** A cluster whose Deployments are ready as soon as they are applied. */
function cluster() {
  const api = new FakeApi();
  const steps: string[] = [];
  api.onChanged = () => {
    const deployment = api.objects.get('Deployment ambassador/traffic-manager');
    if (deployment && !('status' in deployment)) {
      api.put({ ...deployment, ...{ status: { readyReplicas: 1, updatedReplicas: 1 } } });
    }
  };
  const deps = {
    kube: api.kube,
    clock: new HandClock(),
    log: silentLogger,
    onStep: (step: string, _detail?: string) => steps.push(step),
  };
  return { api, deps, steps };
}

test('a first installation creates everything, and a second one changes nothing', async () => {
  const { api, deps } = cluster();
  const first = await installManager(deps, plain);
  assert.ok(first.every(({ action }) => action === 'create'));
  assert.equal(api.calls.length, first.length);
  assert.ok((await installManager(deps, plain)).every(({ action }) => action === 'none'));
  assert.equal(api.calls.length, first.length);
});

test('the preview shows what an upgrade changes, line by line, and changes nothing', async () => {
  const { api, deps } = cluster();
  await installManager(deps, plain);
  api.calls.length = 0;
  const changes = await planInstall(api.kube, readInstallOptions({ options: { logLevel: 'debug' } }));
  const text = describeChanges(changes);
  assert.deepEqual(
    changes.filter(({ action }) => action !== 'none').map(({ what }) => what),
    ['Deployment ambassador/traffic-manager'],
  );
  assert.match(text, /^-\s+value: info\n\+\s+value: debug$/m);
  assert.match(text, /^~ Deployment ambassador\/traffic-manager$/m);
  assert.deepEqual(api.calls, []);
});

test('what an option had added goes when the option goes', async () => {
  const { api, deps } = cluster();
  await installManager(deps, readInstallOptions({ options: { networkPolicy: true, clientRbac: { create: true } } }));
  assert.ok(api.names.includes('NetworkPolicy ambassador/traffic-manager'));
  await installManager(deps, plain);
  const left = api.names.filter((name) => name.startsWith('NetworkPolicy') || name.includes('connect'));
  assert.deepEqual(left, []);
});

test('from everywhere to two namespaces and back, no role of before remains', async () => {
  const { api, deps } = cluster();
  await installManager(deps, plain);
  const before = api.names;
  await installManager(deps, readInstallOptions({ options: { namespaces: ['shop', 'bank'] } }));
  assert.ok(api.names.includes('Role shop/traffic-manager-work-ambassador'));
  await installManager(deps, plain);
  assert.deepEqual(api.names, before);
});

/** A namespace, and the webhook and Deployment of another traffic-manager: ours or somebody else's. */
function withNeighbour(namespaceSelector: object | undefined): ReturnType<typeof cluster> {
  const made = cluster();
  for (const name of ['shop', 'bank', 'team', 'kube-system']) {
    const labels = { 'kubernetes.io/metadata.name': name };
    made.api.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
  }
  const webhook = {
    name: 'agent-injector-team.telepresence.io',
    clientConfig: { service: { name: 'agent-injector', namespace: 'team' } },
    ...(namespaceSelector ? { namespaceSelector } : {}),
  };
  made.api.put({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'agent-injector-webhook-team' },
    ...{ webhooks: [webhook] },
  });
  made.api.put({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'traffic-manager', namespace: 'team' } });
  return made;
}
const inNamespaces = (operator: 'In' | 'NotIn', values: readonly string[]): object => ({
  matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator, values }],
});

for (const [what, theirs, options, shared] of [
  ['two for the whole cluster', undefined, {}, 'bank, shop, team'],
  [
    'one for the whole cluster and one for a namespace',
    inNamespaces('NotIn', ['team']),
    { namespaces: ['shop'] },
    'shop',
  ],
  ['two that share a namespace', inNamespaces('In', ['shop', 'team']), { namespaces: ['shop', 'bank'] }, 'shop'],
] as const) {
  test(`a traffic-manager beside another one that works in the same namespaces is refused: ${what}`, async () => {
    const { api, deps } = withNeighbour(theirs);
    await assert.rejects(
      installManager(deps, readInstallOptions({ options })),
      (error: unknown) =>
        isReason(error, 'connector.managers-overlap') &&
        String(error).includes(`the traffic-manager in namespace team already works in ${shared}`),
    );
    assert.deepEqual(api.calls, []);
  });
}

test('who may not list namespaces is told of those that were named', async () => {
  const { deps } = withNeighbour(inNamespaces('NotIn', ['team']));
  const list: typeof deps.kube.list = async (kind, ...rest) => {
    if (kind.kind === 'Namespace') {
      throw forbidden('you may not list namespaces');
    }
    return deps.kube.list(kind, ...rest);
  };
  const limited = { ...deps, kube: { ...deps.kube, list } };
  await assert.rejects(
    installManager(limited, readInstallOptions({ options: { namespaces: ['shop', 'bank'] } })),
    fails('connector.managers-overlap'),
  );
});

test('two traffic-managers with namespaces of their own stand side by side', async () => {
  const { api, deps } = withNeighbour(inNamespaces('In', ['shop']));
  await installManager(deps, readInstallOptions({ options: { namespaces: ['bank'] } }));
  assert.ok(api.names.includes('Deployment ambassador/traffic-manager'));
});

test('a webhook that is all that is left of a traffic-manager is in nobody’s way', async () => {
  const { api, deps } = withNeighbour(undefined);
  api.objects.delete('Deployment team/traffic-manager');
  await installManager(deps, plain);
  assert.ok(api.names.includes('Deployment ambassador/traffic-manager'));
});

test('a traffic-manager that somebody else installed is refused and not touched', async () => {
  for (const kind of ['Deployment', 'StatefulSet']) {
    const { api, deps } = cluster();
    const stock = {
      metadata: { name: 'traffic-manager', namespace: 'ambassador', labels: { app: 'traffic-manager' } },
    };
    api.put({ apiVersion: 'apps/v1', kind, ...stock });
    await assert.rejects(installManager(deps, plain), fails('connector.foreign-manager'));
    await assert.rejects(uninstallManager(deps, plain), fails('connector.foreign-manager'));
    assert.deepEqual(api.calls, []);
  }
});

test('what Helm installed is left to Helm', async () => {
  const { api, deps } = cluster();
  const labels = { ...ours, 'app.kubernetes.io/managed-by': 'Helm' };
  const metadata = { name: 'traffic-manager', namespace: 'ambassador', labels };
  api.put({ apiVersion: 'apps/v1', kind: 'Deployment', metadata });
  await assert.rejects(installManager(deps, plain), fails('connector.installed-by-helm'));
  await assert.rejects(uninstallManager(deps, plain), fails('connector.installed-by-helm'));
  assert.deepEqual(api.calls, []);
});

test('a field that somebody else has set is named, and taken only when asked', async () => {
  const { api, deps } = cluster();
  await installManager(deps, plain);
  api.conflicts.set('Deployment traffic-manager', 'replicas');
  await assert.rejects(installManager(deps, plain), (error: Error) => {
    assert.ok(isReason(error, 'connector.install-conflict'));
    assert.match(error.message, /Deployment ambassador\/traffic-manager.*kubectl-edit.*\.spec\.replicas/);
    return true;
  });
  await installManager(deps, plain, { takeOver: true });
});

test('a cancelled installation stops where it is', async () => {
  const { api, deps } = cluster();
  const controller = new AbortController();
  deps.onStep = (_step, detail) => {
    if (detail?.startsWith('ClusterRole ')) {
      controller.abort();
    }
    return 0;
  };
  await assert.rejects(installManager(deps, plain, { signal: controller.signal }));
  assert.ok(!api.names.includes('Deployment ambassador/traffic-manager'));
});

test('uninstalling leaves nothing, the namespace included when it was made here', async () => {
  const { api, deps } = cluster();
  await installManager(deps, readInstallOptions({ options: { namespaces: ['shop'], networkPolicy: true } }));
  // The options of that time are not known any more.
  await uninstallManager(deps, plain);
  assert.deepEqual(api.names, []);
});

test('the webhook goes before the manager, and both before their roles', async () => {
  const { api, deps } = cluster();
  await installManager(deps, plain);
  api.calls.length = 0;
  await uninstallManager(deps, plain);
  assert.match(api.calls[0] ?? '', /MutatingWebhookConfiguration/);
  assert.match(api.calls[1] ?? '', /Deployment/);
});

test('a namespace that was there before, or is in use, stays', async () => {
  const labelled = { name: 'ambassador', labels: ours };
  const pod = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'somebody-elses', namespace: 'ambassador' } };
  for (const [metadata, other] of [
    [{ name: 'ambassador' }, undefined],
    [labelled, pod],
  ] as const) {
    const { api, deps } = cluster();
    api.put({ apiVersion: 'v1', kind: 'Namespace', metadata });
    if (other) {
      api.put(other);
    }
    await installManager(deps, plain);
    await uninstallManager(deps, plain);
    assert.deepEqual(
      api.names,
      ['Namespace ambassador', ...(other ? ['Secret ambassador/somebody-elses'] : [])].sort(),
    );
  }
});

test('while agents remain nothing is removed, unless that is asked for', async () => {
  const { api, deps } = cluster();
  await installManager(deps, plain);
  const agent = (name: string, manager: string) => {
    const config = JSON.stringify({ managerHost: `traffic-manager.${manager}` });
    const metadata = { name, namespace: 'shop', annotations: { 'telepresence.io/agent-config': config } };
    api.put({ apiVersion: 'v1', kind: 'Pod', metadata });
  };
  agent('theirs', 'another');
  agent('web', 'ambassador');
  api.calls.length = 0;
  await assert.rejects(uninstallManager(deps, plain), (error: Error) => {
    assert.match(error.message, /shop\/web/);
    assert.doesNotMatch(error.message, /theirs/);
    return isReason(error, 'connector.agents-remain');
  });
  assert.deepEqual(api.calls, []);
  await uninstallManager(deps, plain, { evenWithAgents: true });
  assert.deepEqual(api.names, ['Pod shop/theirs', 'Pod shop/web']);
});
