import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { type Headless, installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { waitFor } from './shell.ts';

// Something is killed with -9. Nothing may be left behind, the cluster's traffic must go on, and the session recovers.
const limit = { timeout: 240_000 };
const localPort = 3000;

let cluster: Cluster;
let workstation: Workstation;
let headless: Headless;
let before_: string;

before(async () => {
  cluster = await openCluster();
  workstation = await openWorkstation(4);
  headless = await installHeadless(workstation, cluster.kubeconfig);
  await headless.nearfield('install');
  before_ = await network();
  const server = `require('http').createServer((q, s) => s.end('laptop ' + q.url)).listen(${localPort}, '127.0.0.1')`;
  workstation.start([`${workstation.home}/node`, '-e', server], `${workstation.home}/server.log`);
}, limit);

after(async () => {
  await headless?.nearfield('quit').catch(() => undefined);
  await workstation?.down();
}, limit);

beforeEach(async () => {
  await headless.nearfield('quit').catch(() => undefined);
  await headless.connect();
}, limit);

/** Addresses, routes, nft tables and resolver: what a daemon changes. */
const network = async (): Promise<string> => (await workstation.state()).split('\n--\n').slice(0, 4).join('\n--\n');

const untouched = (): Promise<true> =>
  waitFor('the machine being as before', 15_000, async () => ((await network()) === before_ ? true : undefined));

const callFromPod = (): Promise<string> => {
  const script = `fetch('http://service-a.service-a-ns:8080/x', { signal: AbortSignal.timeout(5000) }).then((r) => r.text()).then((t) => console.log(t.trim()))`;
  return cluster.kubectl('-n', 'service-b-ns', 'exec', 'deploy/caller', '--', 'node', '-e', script).catch(String);
};
const answeredBy = (who: 'pod' | 'laptop', limitMs: number): Promise<true> =>
  waitFor(`an answer of the ${who}`, limitMs, async () => ((await callFromPod()).startsWith(who) ? true : undefined));

const intercept = async (): Promise<void> => {
  await headless.nearfield('intercept', 'deployment/service-a-deployment', '--port', `${localPort}:8080`);
  await answeredBy('laptop', 30_000);
};
const reachable = async (): Promise<true | undefined> =>
  /^(pod|laptop)/.test(await workstation.run(['curl', '-sS', '-m', '5', 'http://service-a:8080']).catch(String))
    ? true
    : undefined;

test('a killed daemon leaves nothing, and a new one takes up the same session', limit, async () => {
  assert.equal(await reachable(), true);
  process.kill(await headless.pidOf('daemon'), 'SIGKILL');
  await untouched();
  const status = await waitFor('the connector noticing', 10_000, async () => {
    const text = await headless.nearfield('status', '--json');
    return text.includes('daemon.gone') ? text : undefined;
  });
  assert.match(status, /the Nearfield daemon has ended. Restart it with Connect/);
  await headless.nearfield('quit');
  await headless.connect();
  await waitFor('the cluster being reachable again', 15_000, reachable);
});

test(
  'a killed connector gives the traffic back to the pods, and the daemon takes its network down',
  limit,
  async () => {
    await intercept();
    process.kill(await headless.pidOf('connector'), 'SIGKILL');
    await untouched();
    await answeredBy('pod', 20_000);
  },
);

test('a killed traffic-manager pod is replaced, and session and intercept go on', limit, async () => {
  await intercept();
  await cluster.kubectl(
    '-n',
    'ambassador',
    'delete',
    'pod',
    '-l',
    'app=traffic-manager',
    '--grace-period=0',
    '--force',
  );
  await waitFor('the connector noticing', 20_000, async () =>
    (await headless.nearfield('status', '--json')).includes('"reconnecting"') ? true : undefined,
  ).catch(() => undefined);
  await waitFor('the session standing again', 40_000, async () =>
    (await headless.nearfield('status', '--json')).includes('"connected"') ? true : undefined,
  );
  await waitFor('the cluster being reachable again', 20_000, reachable);
  await answeredBy('laptop', 20_000);
});

test('a killed intercepted pod is replaced, and its successor diverts again', limit, async () => {
  await intercept();
  await cluster.kubectl('-n', 'service-a-ns', 'delete', 'pod', '-l', 'app=service-a', '--grace-period=0', '--force');
  await answeredBy('laptop', 60_000);
  await headless.nearfield('leave', 'service-a-deployment');
  await answeredBy('pod', 20_000);
});

test('quitting leaves nothing', limit, async () => {
  await headless.nearfield('quit');
  await untouched();
});
