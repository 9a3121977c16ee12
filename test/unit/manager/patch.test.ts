import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { V1Container, V1Pod } from '../../../src/kube/index.ts';
import { type AgentImage, injectionPatch, type PatchOperation } from '../../../src/manager/injector/patch.ts';
import { planSidecar } from '../../../src/manager/injector/plan.ts';
import { deployment, FakeCluster, planOptions, podOf, service, webContainer, webService } from './fake-cluster.ts';

const golden = join(dirname(fileURLToPath(import.meta.url)), '../../golden');
const image: AgentImage = { image: 'nearfield/traffic:1', pullPolicy: 'IfNotPresent' };

function patchOf(
  containers: V1Container[],
  services = [webService()],
  pod = podOf('web', '1'),
  { redirected = [], more = {}, source = image }: Partial<Extras> = {},
): PatchOperation[] {
  const cluster = new FakeCluster(deployment({ containers }), ...services);
  const config = planSidecar(cluster.view, cluster.workload('web'), planOptions, { redirected: new Set(redirected) });
  return injectionPatch({ ...pod, spec: { ...more, containers } }, { config, ...source });
}

interface Extras {
  readonly redirected: readonly string[];
  readonly more: Partial<NonNullable<V1Pod['spec']>>;
  readonly source: AgentImage;
}

/** RFC 6902, as far as the injector uses it. */
function apply(pod: V1Pod, operations: readonly PatchOperation[]): V1Pod {
  const out = structuredClone(pod) as unknown as Record<string, unknown>;
  for (const { path, value, op } of operations) {
    const keys = path
      .slice(1)
      .split('/')
      .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = keys.pop() ?? '';
    const parent = keys.reduce((at, key) => at[key] as Record<string, unknown>, out);
    assert.ok(parent, `${path} has no parent`);
    if (last === '-') {
      (parent as unknown as unknown[]).push(value);
    } else {
      assert.ok(op === 'add' || last in parent, `${path} is replaced but not there`);
      parent[last] = value;
    }
  }
  return out as unknown as V1Pod;
}

const rich: V1Container = {
  ...webContainer,
  ports: [
    { name: 'http', containerPort: 8080 },
    { name: 'metrics', containerPort: 9000 },
  ],
  env: [
    { name: 'PORT', value: '8080' },
    { name: 'URL', value: 'http://localhost:$(PORT)/$$(PORT)' },
    { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
    { name: 'CPUS', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
  ],
  envFrom: [{ configMapRef: { name: 'settings' } }, { prefix: 'S_', secretRef: { name: 'keys' } }],
  livenessProbe: { httpGet: { path: '/live', port: 8080 } },
  readinessProbe: { httpGet: { path: '/ready', port: 'http' } },
  startupProbe: { tcpSocket: { port: 'http' } },
};

/** Called by number, by a service or straight; probed in every way that there is. */
const numbered: V1Container = {
  ...webContainer,
  ports: [{ containerPort: 8080 }, { name: 'grpc', containerPort: 9000 }, { containerPort: 53, protocol: 'UDP' }],
  livenessProbe: { httpGet: { path: '/live', port: 8080 } },
  readinessProbe: { grpc: { port: 9000 } },
  startupProbe: { tcpSocket: { port: 'grpc' } },
  lifecycle: { preStop: { httpGet: { path: '/bye', port: 8080, host: 'registry' } } },
};
const numberedServices = [
  service('web', 'web', [
    { name: 'http', port: 80, targetPort: 8080 },
    { name: 'dns', port: 53, targetPort: 53, protocol: 'UDP' },
  ]),
];
const numberedPatch = (more: Partial<Extras> = {}): PatchOperation[] =>
  patchOf([numbered], numberedServices, podOf('web', '1'), { redirected: ['9000/TCP'], ...more });

const onRecord: [string, () => PatchOperation[]][] = [
  ['simple', () => patchOf([webContainer])],
  ['rich', () => patchOf([rich, { name: 'log', image: 'log:1', env: [{ name: 'LEVEL', value: 'info' }] }])],
  ['redirected', () => numberedPatch()],
];

/** `UPDATE_GOLDEN=1 node --test …` writes them anew. */
for (const [name, made] of onRecord) {
  test(`the patch of a ${name} pod is the one on record`, () => {
    const text = `${JSON.stringify(made(), undefined, 2)}\n`;
    const file = join(golden, `injector-${name}.json`);
    if (process.env.UPDATE_GOLDEN) {
      mkdirSync(golden, { recursive: true });
      writeFileSync(file, text);
    }
    assert.equal(text, readFileSync(file, 'utf8'));
  });
}

test('after the patch the name of the port leads to the agent, and the probes still to the application', () => {
  const pod = { ...podOf('web', '1'), spec: { containers: [rich] } };
  const [app, agent] = apply(pod, patchOf([rich])).spec?.containers ?? [];
  assert.deepEqual(
    app?.ports?.map(({ name }) => name),
    ['tm-http', 'metrics'],
  );
  assert.deepEqual(agent?.ports, [{ name: 'http', containerPort: 9900, protocol: 'TCP' }]);
  assert.equal(app?.readinessProbe?.httpGet?.port, 'tm-http');
  assert.equal(app?.startupProbe?.tcpSocket?.port, 'tm-http');
  assert.equal(app?.livenessProbe?.httpGet?.port, 8080);
});

test('the variables of the application are copied under a prefix, with their references', () => {
  const pod = { ...podOf('web', '1'), spec: { containers: [rich] } };
  const agent = apply(pod, patchOf([rich])).spec?.containers[1];
  const env = new Map(agent?.env?.map((each) => [each.name, each]));
  assert.equal(env.get('_TEL_APP_A_URL')?.value, 'http://localhost:$(_TEL_APP_A_PORT)/$$(PORT)');
  assert.deepEqual(env.get('_TEL_APP_A_CPUS')?.valueFrom, {
    resourceFieldRef: { resource: 'limits.cpu', containerName: 'server' },
  });
  assert.deepEqual(
    agent?.envFrom?.map(({ prefix }) => prefix),
    ['_TEL_APP_A_', '_TEL_APP_A_S_'],
  );
});

test('a pod that has its agent already is left alone', () => {
  const pod = podOf('web', '1');
  const patched = apply(pod, patchOf([webContainer]));
  assert.deepEqual(patchOf(patched.spec?.containers ?? [], [webService()]), []);
});

test('a pod without labels and annotations gets both', () => {
  const { metadata, ...rest } = podOf('web', '1');
  const bare: V1Pod = { ...rest, metadata: { name: 'web-1', ownerReferences: metadata?.ownerReferences ?? [] } };
  const patched = apply(bare, patchOf([webContainer], [webService()], bare));
  assert.equal(patched.metadata?.labels?.['telepresence.io/workloadName'], 'web');
  const config = JSON.parse(patched.metadata?.annotations?.['telepresence.io/agent-config'] ?? '');
  assert.equal(config.containers[0].intercepts[0].agentPort, 9900);
});

test('what a pod says about itself is not overwritten', () => {
  const pod = podOf('web', '1');
  const labelled = { ...pod, metadata: { ...pod.metadata, labels: { 'telepresence.io/workloadName': 'mine' } } };
  const patched = apply(labelled, patchOf([webContainer], [webService()], labelled));
  assert.equal(patched.metadata?.labels?.['telepresence.io/workloadName'], 'mine');
});

test('the agent asks for no right that a restricted namespace refuses', () => {
  const agent = apply(podOf('web', '1'), patchOf([webContainer])).spec?.containers[1];
  assert.deepEqual(agent?.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    runAsNonRoot: true,
    runAsUser: 1000,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  });
});

test('the configuration survives the expansion of variables by the kubelet', () => {
  const containers = [{ ...webContainer, name: 'server' }];
  const odd = service('we$(X)b', 'web', [{ name: 'http', port: 80, targetPort: 'http' }]);
  const agent = apply(podOf('web', '1'), patchOf(containers, [odd])).spec?.containers[1];
  const raw = agent?.env?.find(({ name }) => name === 'AGENT_CONFIG')?.value ?? '';
  const expanded = raw.replaceAll('$$', '$');
  assert.equal(JSON.parse(expanded).containers[0].intercepts[0].serviceName, 'we$(X)b');
});

/** Names as the API server accepts them. */
function portNamesOf(pod: V1Pod): (string | undefined)[][] {
  return (pod.spec?.containers ?? []).map(({ ports = [] }) => ports.map(({ name }) => name));
}

const named = (...names: string[]) => names.map((name, at) => ({ name, containerPort: 8080 + at }));
const serviceOf = (...names: string[]) =>
  service(
    'web',
    'web',
    names.map((name, at) => ({ name: `p${at}`, port: 80 + at, targetPort: name })),
  );

for (const names of [['internal-http-a', 'internal-http-b'], ['abcdefghijk-lm'], ['http', 'tm-http']] as const) {
  test(`the new names of ${names.join(' and ')} are valid and different`, () => {
    const container = { ...webContainer, ports: named(...names) };
    const pod = { ...podOf('web', '1'), spec: { containers: [container] } };
    const [app = [], agent = []] = portNamesOf(apply(pod, patchOf([container], [serviceOf(...names)])));
    assert.deepEqual(agent, names);
    assert.equal(new Set(app).size, names.length);
    for (const name of app) {
      assert.match(name ?? '', /^(?=.{1,15}$)[a-z0-9]+(-[a-z0-9]+)*$/);
    }
  });
}

test('a name that occurs in two containers is hidden in both, or the service would find the other one first', () => {
  const containers = [webContainer, { name: 'side', image: 's:1', ports: [{ name: 'http', containerPort: 7000 }] }];
  const pod = { ...podOf('web', '1'), spec: { containers } };
  assert.deepEqual(portNamesOf(apply(pod, patchOf(containers))), [['tm-http'], ['tm-http'], ['http']]);
});

test('two names of one port are both taken over', () => {
  const container = {
    ...webContainer,
    ports: [
      { name: 'http', containerPort: 8080 },
      { name: 'web', containerPort: 8080 },
    ],
  };
  const pod = { ...podOf('web', '1'), spec: { containers: [container] } };
  assert.deepEqual(portNamesOf(apply(pod, patchOf([container], [serviceOf('http', 'web')]))), [
    ['tm-http', 'tm-web'],
    ['http', 'web'],
  ]);
});

test('a lifecycle hook still calls the application', () => {
  const container = { ...webContainer, lifecycle: { preStop: { httpGet: { path: '/bye', port: 'http' } } } };
  const pod = { ...podOf('web', '1'), spec: { containers: [container] } };
  const [app] = apply(pod, patchOf([container])).spec?.containers ?? [];
  assert.equal(app?.lifecycle?.preStop?.httpGet?.port, 'tm-http');
});

test('a reference to a variable of the pod stays one', () => {
  const container = { ...webContainer, env: [{ name: 'API', value: 'https://$(KUBERNETES_SERVICE_HOST)' }] };
  const pod = { ...podOf('web', '1'), spec: { containers: [container] } };
  const agent = apply(pod, patchOf([container])).spec?.containers[1];
  const copied = agent?.env?.find(({ name }) => name === '_TEL_APP_A_API');
  assert.equal(copied?.value, 'https://$(KUBERNETES_SERVICE_HOST)');
});

test('what is called by number is redirected before the pod starts, and probes lead past the agent', () => {
  const pod = { ...podOf('web', '1'), spec: { containers: [numbered] } };
  const { initContainers = [], containers = [] } = apply(pod, numberedPatch()).spec ?? {};
  assert.deepEqual(initContainers[0]?.args, [
    '1000',
    'take:8080:9900:tcp',
    'take:53:9901:udp',
    'take:9000:9902:tcp',
    'pass:9903:8080:tcp',
    'pass:9904:9000:tcp',
  ]);
  assert.deepEqual(initContainers[0]?.securityContext?.capabilities, { drop: ['ALL'], add: ['NET_ADMIN'] });
  const [app, agent] = containers;
  assert.equal(app?.livenessProbe?.httpGet?.port, 9903);
  assert.equal(app?.readinessProbe?.grpc?.port, 9904);
  assert.equal(app?.startupProbe?.tcpSocket?.port, 9904);
  assert.equal(app?.lifecycle?.preStop?.httpGet?.port, 8080, 'of another host');
  assert.deepEqual(
    app?.ports?.map(({ name }) => name),
    [undefined, 'grpc', undefined],
    'nobody else needs their names',
  );
  assert.ok(agent?.ports?.every(({ name }) => name === undefined));
});

test('the init containers that a pod has stay, and run before ours', () => {
  const more = { initContainers: [{ name: 'migrate', image: 'm:1' }] };
  const pod = { ...podOf('web', '1'), spec: { ...more, containers: [numbered] } };
  const names = apply(pod, numberedPatch({ more })).spec?.initContainers?.map(({ name }) => name);
  assert.deepEqual(names, ['migrate', 'tel-agent-init']);
});

test('secrets for the agent’s image come to those of the pod, each once', () => {
  const more = { imagePullSecrets: [{ name: 'own' }, { name: 'both' }] };
  const source = { ...image, pullSecrets: ['both', 'agent'] };
  const operations = patchOf([webContainer], [webService()], podOf('web', '1'), { more, source });
  const { value } = operations.find(({ path }) => path === '/spec/imagePullSecrets') ?? {};
  assert.deepEqual(value, [{ name: 'own' }, { name: 'both' }, { name: 'agent' }]);
});

const agentOf = (operations: readonly PatchOperation[]): V1Container =>
  operations.find(({ path }) => path === '/spec/containers/-')?.value as V1Container;

test('the agent may use what the installation says', () => {
  const resources = { requests: { cpu: '50m' }, limits: { memory: '256Mi' } };
  const made = patchOf([webContainer], [webService()], podOf('web', '1'), { source: { ...image, resources } });
  assert.deepEqual(agentOf(made).resources, resources);
});

test('an agent has requests where every container has them, so that autoscaling goes on', () => {
  const asking = { ...webContainer, resources: { requests: { cpu: '1' }, limits: { memory: '1Gi' } } };
  assert.deepEqual(agentOf(patchOf([asking])).resources, { requests: { cpu: '10m', memory: '64Mi' } });
  assert.deepEqual(agentOf(patchOf([asking, { name: 'side', image: 's' }])).resources, {});
});

test('the variables of a mesh’s proxy are not the agent’s', () => {
  const cluster = new FakeCluster(deployment(), webService());
  const config = planSidecar(cluster.view, cluster.workload('web'), planOptions);
  const proxy = { name: 'istio-proxy', image: 'p:1', env: [{ name: 'TOKEN', value: 'x' }] };
  const pod = { ...podOf('web', '1'), spec: { containers: [webContainer, proxy] } };
  const { env = [] } = agentOf(injectionPatch(pod, { config, ...image }));
  assert.ok(!env.some(({ name }) => name.includes('TOKEN')));
});
