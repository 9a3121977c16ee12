import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Headless, installHeadless } from '../support/headless.ts';
import { type ProbeReport, probeFromPod } from '../support/probe.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { cacheFolder, repositoryRoot } from './paths.ts';
import { run, waitFor } from './shell.ts';

// A service of three replicas is called 200 times a second, each time by a new connection, while everything happens to it
// that we do. Whoever calls may lose no more than in an ordinary rollout of the same Deployment.
const limit = { timeout: 300_000 };
const periodMs = 5;
const port = 8080;
const leadMs = 1_000;

let cluster: Cluster;
let workstation: Workstation;
let headless: Headless;
let address: string;
let lostInRollout = 0;
const table = ['| What happened | requests | lost | answered by |', '|---|---|---|---|'];

before(async () => {
  cluster = await openCluster();
  workstation = await openWorkstation(8);
  headless = await installHeadless(workstation, cluster.kubeconfig);
  await cluster.kubectl('delete', 'namespace', 'steady', '--ignore-not-found', '--timeout=60s');
  await headless.nearfield('install');
  await cluster.kubectl('apply', '-f', join(repositoryRoot, 'test/cluster/manifests/steady.yaml'));
  await Promise.all(['web', 'client'].map(rolledOut));
  address = await cluster.kubectl('-n', 'steady', 'get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}');
  const program = join(cacheFolder, 'http');
  await run('gcc', ['-O2', '-static', '-o', program, join(repositoryRoot, 'test/bench/native/http.c')]);
  const http = await workstation.give(program, 'http');
  workstation.start([http, 'serve', String(port), 'laptop'], join(workstation.home, 'http.log'));
  // A pod that is ready is in the Service a moment later; what is lost before that is no rollout's.
  await waitFor('the pods answering', 20_000, async () => ((await probe()).failed === 0 ? true : undefined));
}, limit);

/** A moment of calls. */
const probe = (): Promise<ProbeReport> =>
  probeFromPod(cluster, { namespace: 'steady', address, port, periodMs: 20, seconds: 0.2 });

after(async () => {
  const folder = join(repositoryRoot, 'test/artifacts');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'zero-loss.md'), `${table.join('\n')}\n`);
  console.log(table.join('\n'));
  await headless?.nearfield('quit').catch(() => undefined);
  await cluster?.kubectl('delete', 'namespace', 'steady', '--wait=false').catch(() => undefined);
  await workstation?.down();
}, limit);

const rolledOut = (name: string): Promise<string> =>
  cluster.kubectl('-n', 'steady', 'rollout', 'status', `deploy/${name}`, '--timeout=120s');

/** Calls for as long as the change takes, and some seconds more. */
async function during(what: string, seconds: number, change: () => Promise<unknown>): Promise<ProbeReport> {
  const probing = probeFromPod(cluster, { namespace: 'steady', address, port, periodMs, seconds });
  await new Promise((resolve) => setTimeout(resolve, leadMs));
  await change();
  const report = await probing;
  const answers = report.events.filter(({ kind }) => kind === 'answer').map((each) => each.what);
  const by = answers.filter((each, index) => each !== answers[index - 1]).slice(0, 6);
  table.push(`| ${what} | ${report.sent} | ${report.failed} | ${by.join(', ')} |`);
  return report;
}

function assertNoneLost({ events, sent, failed }: ProbeReport): void {
  const reasons = [...new Set(events.filter(({ kind }) => kind === 'failure').map(({ what }) => what))];
  assert.ok(failed <= lostInRollout, `${failed} of ${sent} were lost: ${reasons.join(', ')}`);
}

const who = ({ events }: ProbeReport): Set<string> =>
  new Set(events.filter(({ kind }) => kind === 'answer').map(({ what }) => what));
const intercept = (): Promise<string> =>
  headless.nearfield('intercept', 'deployment/web', '--namespace', 'steady', '--port', `${port}:http`);
const managerReady = (): Promise<string> =>
  cluster.kubectl('-n', 'ambassador', 'rollout', 'status', 'deploy/traffic-manager', '--timeout=120s');
const sessionStands = (): Promise<true> =>
  waitFor('the session standing', 40_000, async () =>
    (await headless.nearfield('status', '--json')).includes('"connected"') ? true : undefined,
  );

test('an ordinary rollout is the measure', limit, async () => {
  const { failed } = await during('an ordinary rollout', 20, async () => {
    await cluster.kubectl('-n', 'steady', 'rollout', 'restart', 'deploy/web');
    await rolledOut('web');
  });
  lostInRollout = failed;
});

test('the first intercept, which puts the agents in, loses nothing', limit, async () => {
  await headless.connect();
  const report = await during('agents put in by the first intercept', 30, async () => {
    await intercept();
    await rolledOut('web');
  });
  assertNoneLost(report);
  assert.ok(who(report).has('laptop'));
});

test('leaving loses nothing', limit, async () => {
  const report = await during('leave', 6, () => headless.nearfield('leave', 'web-steady'));
  assertNoneLost(report);
  assert.ok(who(report).has('pod'));
});

test('attaching again loses nothing', limit, async () => {
  const report = await during('attach again', 6, intercept);
  assertNoneLost(report);
  assert.ok(who(report).has('laptop'));
});

test('a manager that is rolled out anew loses nothing, and the intercept goes on', limit, async () => {
  const report = await during('manager upgraded', 25, async () => {
    await cluster.kubectl('-n', 'ambassador', 'rollout', 'restart', 'deploy/traffic-manager');
    await managerReady();
    await sessionStands();
  });
  assertNoneLost(report);
  await stillIntercepted();
});

test('a manager that is killed loses nothing, and the intercept goes on', limit, async () => {
  const report = await during('manager killed', 25, async () => {
    const killed = ['delete', 'pod', '-l', 'app=traffic-manager', '--grace-period=0', '--force'];
    await cluster.kubectl('-n', 'ambassador', ...killed);
    await managerReady();
    await sessionStands();
  });
  assertNoneLost(report);
  await stillIntercepted();
});

test('a connector that is killed loses nothing: the pods answer', limit, async () => {
  const report = await during('client killed', 25, async () => {
    process.kill(await headless.pidOf('connector'), 'SIGKILL');
  });
  assertNoneLost(report);
  assert.ok(who(report).has('pod'));
});

test('uninstalling, which takes the agents out, loses nothing', limit, async () => {
  const report = await during('uninstall', 30, async () => {
    await headless.nearfield('uninstall');
    await rolledOut('web');
  });
  assertNoneLost(report);
  const pods = await cluster.kubectl(
    '-n',
    'steady',
    'get',
    'pods',
    '-o',
    'jsonpath={.items[*].spec.containers[*].name}',
  );
  assert.doesNotMatch(pods, /traffic-agent/);
});

async function stillIntercepted(): Promise<void> {
  await waitFor('the laptop answering', 20_000, async () => {
    const report = await probe();
    return who(report).has('laptop') && !who(report).has('pod') ? true : undefined;
  });
}
