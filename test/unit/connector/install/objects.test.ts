import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason } from '../../../../src/base/index.ts';
import { diffLines } from '../../../../src/connector/install/diff.ts';
import { managerObjects } from '../../../../src/connector/install/objects.ts';
import { readInstallOptions } from '../../../../src/connector/install/options.ts';

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}
const objectsOf = (options: object, namespace?: string) => managerObjects(readInstallOptions({ namespace, options }));
const rulesOf = (objects: readonly object[]): readonly Rule[] =>
  objects.flatMap((object) => ('rules' in object ? (object.rules as readonly Rule[]) : []));
const container = (objects: readonly object[]) => {
  const deployment = objects.find((object) => 'kind' in object && object.kind === 'Deployment') as unknown as {
    spec: { template: { spec: Record<string, unknown> & { containers: Record<string, unknown>[] } } };
  };
  return { pod: deployment.spec.template.spec, container: deployment.spec.template.spec.containers[0] ?? {} };
};
const variable = (objects: readonly object[], name: string): string | undefined =>
  (container(objects).container['env'] as { name: string; value?: string }[]).find((each) => each.name === name)?.value;

test('no rule names all resources or all verbs, and none reads secrets that are not the manager’s own', () => {
  for (const namespaces of [[], ['shop']]) {
    const rules = rulesOf(objectsOf({ namespaces, requireToken: true, clientRbac: { create: true } }));
    assert.ok(rules.length > 5);
    assert.ok(rules.every(({ resources, verbs }) => ![...resources, ...verbs].some((each) => each.includes('*'))));
    const secrets = rules.filter(({ resources }) => resources.includes('secrets'));
    assert.ok(secrets.every(({ resourceNames, verbs }) => resourceNames?.length === 1 || verbs.join() === 'create'));
  }
});

test('a manager of some namespaces has no cluster-wide right to anybody’s objects but its own webhook', () => {
  const objects = objectsOf({ namespaces: ['shop'] });
  const roles = objects.filter(({ kind }) => kind === 'ClusterRole');
  assert.deepEqual(
    rulesOf(roles).map(({ resources }) => resources.join()),
    ['servicecidrs', 'mutatingwebhookconfigurations', 'tokenreviews'],
  );
  assert.equal(variable(objects, 'MANAGED_NAMESPACES'), 'shop');
});

test('the role of developers can read, forward, and what is asked about by the manager alone, nothing else', () => {
  const roles = objectsOf({ clientRbac: { create: true } }).filter(({ metadata }) =>
    /client|connect/.test(metadata?.name ?? ''),
  );
  for (const { apiGroups, resources, verbs } of rulesOf(roles)) {
    const mayCreate = resources.includes('pods/portforward') || apiGroups.join() === 'nearfield.dev';
    const allowed = mayCreate ? ['create', 'get'] : ['get', 'list', 'watch'];
    assert.deepEqual(
      verbs.filter((verb) => !allowed.includes(verb)),
      [],
    );
  }
});

test('the options of the pod and of the agents arrive where they belong', () => {
  const objects = objectsOf({
    image: { registry: 'registry.example/team', tag: '1', pullSecrets: [{ name: 'robot' }] },
    nodeSelector: { disk: 'ssd' },
    tolerations: [{ key: 'spot', operator: 'Exists' }],
    resources: { limits: { memory: '200Mi' } },
    agent: { image: 'registry.example/agent:2', logLevel: 'warn', resources: { requests: { cpu: '5m' } } },
    agentInjector: { injectPolicy: 'WhenEnabled' },
    requireToken: true,
  });
  const { pod, container: manager } = container(objects);
  assert.deepEqual(pod['imagePullSecrets'], [{ name: 'robot' }]);
  assert.deepEqual(pod['nodeSelector'], { disk: 'ssd' });
  assert.deepEqual(pod['tolerations'], [{ key: 'spot', operator: 'Exists' }]);
  assert.equal(manager['image'], 'registry.example/team/traffic:1');
  assert.deepEqual(manager['resources'], { limits: { memory: '200Mi' } });
  const expected = {
    AGENT_IMAGE: 'registry.example/agent:2',
    AGENT_LOG_LEVEL: 'warn',
    AGENT_RESOURCES: '{"requests":{"cpu":"5m"}}',
    AGENT_INJECT_POLICY: 'WhenEnabled',
    AGENT_IMAGE_PULL_SECRETS: '[{"name":"robot"}]',
    REQUIRE_TOKEN: 'true',
  };
  for (const [name, value] of Object.entries(expected)) {
    assert.equal(variable(objects, name), value);
  }
});

test('the webhook can never keep a pod from starting, and leaves the cluster’s own namespaces alone', () => {
  const { webhooks } = objectsOf({}).find(({ kind }) => kind === 'MutatingWebhookConfiguration') as unknown as {
    webhooks: { failurePolicy: string; namespaceSelector: { matchExpressions: { values: string[] }[] } }[];
  };
  assert.equal(webhooks[0]?.failurePolicy, 'Ignore');
  assert.ok(webhooks[0]?.namespaceSelector.matchExpressions[0]?.values.includes('kube-system'));
});

test('a selector of namespaces is added to what the webhook leaves alone anyway', () => {
  const chosen = { matchLabels: { team: 'blue' }, matchExpressions: [{ key: 'stage', operator: 'Exists' }] };
  const { webhooks } = objectsOf({ namespaceSelector: chosen }).find(
    ({ kind }) => kind === 'MutatingWebhookConfiguration',
  ) as unknown as { webhooks: { namespaceSelector: { matchLabels: object; matchExpressions: object[] } }[] };
  const selector = webhooks[0]?.namespaceSelector;
  assert.deepEqual(selector?.matchLabels, { team: 'blue' });
  assert.deepEqual(selector?.matchExpressions[1], { key: 'stage', operator: 'Exists', values: [] });
  assert.throws(
    () => readInstallOptions({ options: { namespaces: ['a'], namespaceSelector: chosen } }),
    /one of the two is enough/,
  );
});

test('all that is wrong with options is said at once', () => {
  assert.throws(
    () => readInstallOptions({ namespace: 'No!', options: { replicas: 2, nonsense: 1 } }),
    (error: Error) => {
      assert.ok(isReason(error, 'connector.bad-install-options'));
      assert.match(error.message, /replicas.*nonsense.*namespace/s);
      return true;
    },
  );
});

test('a difference has its lines, some around them, and a mark for those left out', () => {
  const lines = Array.from({ length: 20 }, (_, index) => `${index}`);
  const after = lines.map((line) => (line === '10' ? 'ten' : line));
  assert.deepEqual(diffLines(lines, after), ['  …', ...['  7', '  8', '  9', '- 10', '+ ten', '  11', '  12', '  13']]);
  assert.deepEqual(diffLines(lines, lines), []);
});
