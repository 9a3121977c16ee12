import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Headless, installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';
import { installProbes, type ResolverProbe } from './probes/probes.ts';

// Real resolvers of many languages, asked for every form of a name, agree with what the cluster says.
const limit = { timeout: 600_000 };
const none = '-';

let cluster: Cluster;
let workstation: Workstation;
let headless: Headless;
let probes: ResolverProbe[];
/** What each name form leads to. */
const expected = new Map<string, string>();
const table: string[] = [];

before(async () => {
  cluster = await openCluster();
  workstation = await openWorkstation(7);
  headless = await installHeadless(workstation, cluster.kubeconfig);
  probes = await installProbes(workstation);
  await headless.nearfield('install');
  await headless.connect();
  const service = ['-n', 'service-a-ns', 'get', 'service', 'service-a', '-o', 'jsonpath={.spec.clusterIP}'];
  const address = await cluster.kubectl(...service);
  const manager = [
    '-n',
    'ambassador',
    'get',
    'pod',
    '-l',
    'app=traffic-manager',
    '-o',
    'jsonpath={.items[0].status.podIP}',
  ];
  const short = ['service-a', 'service-a.service-a-ns', 'service-a.service-a-ns.svc'];
  for (const name of [...short, 'service-a.service-a-ns.svc.cluster.local']) {
    expected.set(name, address);
  }
  expected.set('service-a.service-a-ns.svc.cluster.local.', address);
  expected.set('SERVICE-A.Service-A-NS', address);
  // Headless: the pod itself.
  expected.set('traffic-manager.ambassador', await cluster.kubectl(...manager));
  expected.set('intranet.office.example', '172.31.87.1');
  expected.set('no-such-service.service-a-ns', none);
  expected.set('no-such-service.service-a-ns.svc.cluster.local', none);
}, limit);

after(async () => {
  const folder = join(repositoryRoot, 'test/artifacts');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'resolvers.md'), `${table.join('\n')}\n`);
  await headless?.nearfield('quit').catch(() => undefined);
  await workstation?.down();
}, limit);

test('every resolver finds every form of a name, and none that is not there', limit, async () => {
  table.push(`| Resolver | ${[...expected.keys()].join(' | ')} |`, `|---${'|---'.repeat(expected.size)}|`);
  const wrong: string[] = [];
  for (const { name, command } of probes) {
    const output = await workstation.run([...command, ...expected.keys()], { timeoutMs: 60_000 });
    const found = new Map(
      output
        .trim()
        .split('\n')
        .map((line) => [line.split(' ')[0] ?? '', line.split(' ')[1] ?? '']),
    );
    const cells = [...expected].map(([asked, wanted]) => {
      const got = [...new Set(found.get(asked)?.split(','))].join(',');
      if (got !== wanted) {
        wrong.push(`${name}: ${asked} is ${got}, not ${wanted}`);
      }
      return got === wanted ? (wanted === none ? 'none' : 'yes') : `**${got}**`;
    });
    table.push(`| ${name} | ${cells.join(' | ')} |`);
  }
  console.log(table.join('\n'));
  assert.deepEqual(wrong, []);
});

test('services are found by SRV records, and names by addresses', limit, async () => {
  const dig = (...words: string[]): Promise<string> =>
    workstation.run(['dig', '+short', '+time=5', '+tries=1', ...words]);
  assert.match(await dig('_http._tcp.service-a.service-a-ns.svc.cluster.local', 'SRV'), /8080 service-a\.service-a-ns/);
  const address = expected.get('service-a') ?? '';
  assert.match(await dig('-x', address), /service-a\.service-a-ns\.svc\.cluster\.local\./);
});
