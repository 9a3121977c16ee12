import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Headless, installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { waitFor } from './shell.ts';

// A machine on which Docker has the cluster's addresses: refused with the reason, reached under others when asked.
const limit = { timeout: 240_000 };

let cluster: Cluster;
let workstation: Workstation;
let headless: Headless;
let podIp: string;
let serviceIp: string;

before(async () => {
  cluster = await openCluster();
  workstation = await openWorkstation(4);
  headless = await installHeadless(workstation, cluster.kubeconfig);
  await headless.nearfield('install');
  const jsonpath = (path: string): string[] => ['-o', `jsonpath={${path}}`];
  serviceIp = await cluster.kubectl(
    '-n',
    'service-a-ns',
    'get',
    'service',
    'service-a',
    ...jsonpath('.spec.clusterIP'),
  );
  const pods = ['-n', 'service-a-ns', 'get', 'pod', '-l', 'app=service-a'];
  podIp = await cluster.kubectl(...pods, ...jsonpath('.items[0].status.podIP'));
  for (const command of [
    ['link', 'add', 'docker0', 'type', 'bridge'],
    ['link', 'set', 'docker0', 'up'],
    ...[podIp, serviceIp].map((ip) => [
      'route',
      'add',
      `${ip.split('.').slice(0, 3).join('.')}.0/24`,
      'dev',
      'docker0',
    ]),
  ]) {
    await workstation.run(['ip', ...command], { asRoot: true });
  }
}, limit);

after(async () => {
  await headless?.nearfield('quit').catch(() => undefined);
  await workstation?.down();
}, limit);

const ask = (url: string): Promise<string> => workstation.run(['curl', '-sS', '--max-time', '10', url]);
const addressOf = async (name: string): Promise<string> =>
  (await workstation.run(['getent', 'ahostsv4', name])).split(/\s+/)[0] ?? '';

test('connecting is refused with the route and its owner, what to do, and nothing is left', limit, async () => {
  const before = await workstation.state();
  await assert.rejects(headless.connect(), (error: Error) => {
    assert.match(error.message, /overlaps with the existing route .* dev docker0, which belongs to Docker/);
    assert.match(error.message, /--translate-conflicts/);
    return true;
  });
  const withoutSockets = (state: string): string => state.slice(0, state.lastIndexOf('--'));
  assert.equal(withoutSockets(await workstation.state()), withoutSockets(before));
});

test('with translation the same names work under other addresses', limit, async () => {
  const shown = await headless.connect('--translate-conflicts', '--mapping', `pod.test=${podIp}`);
  assert.match(shown, /Translated +: \S+, because of \S+ dev docker0, which belongs to Docker/);
  assert.match(await ask('http://service-a.service-a-ns:8080/'), /service-a/);
  assert.match(await addressOf('service-a.service-a-ns'), /^246\.246\./);
});

test('an address that stands in has the real one’s name', limit, async () => {
  const virtual = await addressOf('service-a.service-a-ns');
  assert.match(await workstation.run(['getent', 'hosts', virtual]), /service-a\.service-a-ns/);
});

test('a name that is mapped to an address leads there', limit, async () => {
  assert.match(await addressOf('pod.test'), /^246\.246\./);
  assert.match(await ask('http://pod.test:8080/'), /service-a/);
});

test('the other network keeps its addresses', limit, async () => {
  const route = await workstation.run(['ip', 'route', 'get', serviceIp]);
  assert.match(route, /dev docker0/);
});

test('an address that stands in for nothing is unreachable at once', limit, async () => {
  await assert.rejects(ask('http://246.246.200.200:8080/'), /curl: \(7\)/);
});

test('a route that comes while connected moves its subnet to other addresses, and names follow', limit, async () => {
  await headless.nearfield('quit');
  for (const ip of [podIp, serviceIp]) {
    const subnet = `${ip.split('.').slice(0, 3).join('.')}.0/24`;
    await workstation.run(['ip', 'route', 'delete', subnet, 'dev', 'docker0'], { asRoot: true });
  }
  await headless.connect('--translate-conflicts');
  assert.equal(await addressOf('service-a.service-a-ns'), serviceIp);
  await workstation.run(['ip', 'route', 'add', `${serviceIp}/32`, 'dev', 'docker0'], { asRoot: true });
  await waitFor('another address', 60_000, async () =>
    (await addressOf('service-a.service-a-ns').catch(() => '')).startsWith('246.246.') ? true : undefined,
  );
  assert.match(await ask('http://service-a.service-a-ns:8080/'), /service-a/);
});
