import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { managerObjects } from '../../src/connector/install/objects.ts';
import { readInstallOptions } from '../../src/connector/install/options.ts';
import { helmBinary } from './cache.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';
import { run } from './shell.ts';

// The manifests and the chart, as kubectl, the API server and the real Helm see them.
const chart = join(repositoryRoot, 'charts/nearfield');
const manifest = (name: string): string => join(repositoryRoot, 'docs/manifests', `${name}.yaml`);
interface Found {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly annotations?: object };
}
let cluster: Cluster;
let helm: string;

before(
  async () => {
    cluster = await openCluster();
    helm = await helmBinary();
  },
  { timeout: 900_000 },
);

const objectsOf = (text: string): Found[] =>
  parseAllDocuments(text)
    .map((document) => document.toJS() as Found | null)
    .filter((each) => each !== null)
    .sort((left, right) => keyOf(left).localeCompare(keyOf(right)));
const keyOf = ({ kind, metadata }: Found): string => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
/** Helm makes the namespace itself, and its hook is there for Helm only. */
const compared = (objects: readonly Found[]): Found[] =>
  objects.filter(({ kind, metadata }) => kind !== 'Namespace' && !metadata.annotations);
const template = async (options: object): Promise<Found[]> =>
  objectsOf(
    await run(helm, [
      ...['template', 'nearfield', chart, '--namespace', 'ambassador'],
      ...Object.entries(options).flatMap(([name, value]) => ['--set-json', `${name}=${JSON.stringify(value)}`]),
    ]),
  );

test('helm lint finds nothing wrong', async () => {
  const said = await run(helm, ['lint', '--strict', '--quiet', chart]);
  assert.equal(said.trim(), '');
});

test('helm template with the default values is docs/manifests/nearfield.yaml', async () => {
  const documented = objectsOf(await readFile(manifest('nearfield'), 'utf8'));
  assert.deepEqual(compared(await template({})), compared(documented));
});

const choices: readonly (readonly [string, object])[] = [
  ['some namespaces', { namespaces: ['service-a-ns', 'service-b-ns'] }],
  [
    'namespaces by their labels',
    {
      namespaceSelector: {
        matchLabels: { team: 'blue' },
        matchExpressions: [{ key: 'stage', operator: 'NotIn', values: ['production'] }],
      },
    },
  ],
  ['tokens', { requireToken: true }],
  ['tokens in some namespaces', { requireToken: true, namespaces: ['service-a-ns'] }],
  ['a network policy', { networkPolicy: true }],
  [
    'another image, with secrets',
    { image: { registry: 'r.example', tag: '9', pullPolicy: 'Always', pullSecrets: [{ name: 'robot' }] } },
  ],
  [
    'where and how the pod runs',
    {
      nodeSelector: { disk: 'ssd' },
      tolerations: [{ key: 'spot', operator: 'Exists' }],
      resources: { requests: { cpu: '10m' }, limits: { memory: '200Mi' } },
      replicas: 0,
      logLevel: 'debug',
    },
  ],
  ['agents', { agent: { image: 'r.example/agent:1', logLevel: 'warn', resources: { limits: { memory: '64Mi' } } } }],
  ['injection', { agentInjector: { injectPolicy: 'WhenEnabled' } }],
  [
    'developers',
    {
      clientRbac: {
        create: true,
        subjects: [
          { kind: 'Group', name: 'developers' },
          { kind: 'ServiceAccount', name: 'ci', namespace: 'default' },
        ],
      },
    },
  ],
  [
    'developers of one namespace',
    { namespaces: ['service-a-ns'], clientRbac: { create: true, subjects: [{ kind: 'User', name: 'ana' }] } },
  ],
];

for (const [name, options] of choices) {
  test(`the chart and nearfield install make the same of the same values: ${name}`, async () => {
    const ours = managerObjects(readInstallOptions({ options })) as unknown as Found[];
    const plain = JSON.parse(JSON.stringify(ours)) as Found[];
    assert.deepEqual(
      compared(await template(options)),
      compared(plain.sort((left, right) => keyOf(left).localeCompare(keyOf(right)))),
    );
  });
}

test('the schema of the values refuses what the options refuse', async () => {
  for (const wrong of [
    'replicas=2',
    'nonsense=1',
    'logLevel=loud',
    'namespaces={No!}',
    'agentInjector.injectPolicy=x',
  ]) {
    await assert.rejects(run(helm, ['template', 'nearfield', chart, '--set', wrong]), /schema/, wrong);
  }
});

test('the API server accepts every documented manifest, and every object of the chart', async () => {
  const name = 'ambassador';
  const isThere = (await cluster.kubectl('get', 'namespace', name, '--ignore-not-found')).trim() !== '';
  if (!isThere) {
    await cluster.kubectl('create', 'namespace', name);
  }
  const folder = await mkdtemp(join(tmpdir(), 'nearfield-chart-'));
  try {
    for (const each of ['nearfield', 'nearfield-namespaced', 'network-policy', 'client-role']) {
      await cluster.kubectl('apply', '--server-side', '--force-conflicts', '--dry-run=server', '-f', manifest(each));
    }
    const rendered = join(folder, 'rendered.yaml');
    const all = ['--set', 'networkPolicy=true,clientRbac.create=true,requireToken=true'];
    await writeFile(rendered, await run(helm, ['template', 'nearfield', chart, '--namespace', name, ...all]));
    await cluster.kubectl('apply', '--dry-run=server', '-f', rendered);
  } finally {
    await rm(folder, { recursive: true, force: true });
    if (!isThere) {
      await cluster.kubectl('delete', 'namespace', name);
    }
  }
});
