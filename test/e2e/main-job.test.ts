import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { type Cluster, openCluster } from '../cluster/cluster.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { waitFor } from '../cluster/shell.ts';
import { type Editor, startEditor } from '../support/editor.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { openBrowser, Workbench } from './support/browser.ts';

// A stranger's first ten minutes: real cluster, real VS Code in a real browser, real TUN, real debugger.
const artifacts = join(repositoryRoot, 'test/artifacts/main-job');
const workload = 'service-a-deployment';
const limit = { timeout: 240_000 };

let cluster: Cluster;
let workstation: Workstation;
let editor: Editor;
let browser: Browser;
let workbench: Workbench;
let stateBefore: string;

before(async () => {
  cluster = await openCluster();
  await cluster.kubectl('delete', 'namespace', 'ambassador', '--ignore-not-found', '--wait');
  await cluster.kubectl(
    'delete',
    'mutatingwebhookconfiguration',
    'agent-injector-webhook-ambassador',
    '--ignore-not-found',
  );
  await cluster.kubectl('-n', 'service-a-ns', 'rollout', 'restart', `deploy/${workload}`);
  await cluster.kubectl('-n', 'service-a-ns', 'rollout', 'status', `deploy/${workload}`, '--timeout=60s');
  workstation = await openWorkstation(3);
  stateBefore = await workstation.state();
  editor = await startEditor(workstation, cluster.kubeconfig);
  browser = await openBrowser({ namespace: workstation.namespace, artifacts });
  workbench = await Workbench.open(browser, editor.address, artifacts);
}, limit);

after(async () => {
  await workbench?.shot('end').catch(() => undefined);
  await browser?.close();
  await workstation?.down();
}, limit);

/** A request from another pod, as a user of the service would make it. */
const callFromPod = (path: string): Promise<string> => {
  const script = `fetch('http://service-a.service-a-ns:8080${path}').then((r) => r.text()).then((t) => console.log(t.trim()))`;
  return cluster.kubectl('-n', 'service-b-ns', 'exec', 'deploy/caller', '--', 'node', '-e', script);
};

const connectedText = /connected service-a-ns@/;

test('the view says that the traffic-manager is missing, and Install installs it', limit, async () => {
  await workbench.openView();
  await workbench.shot('not-connected');
  await workbench.page.locator('.monaco-button', { hasText: 'Connect' }).first().click();
  const install = workbench.page.locator('.sidebar .monaco-button', { hasText: 'Install' }).first();
  await install.waitFor();
  await workbench.shot('manager-missing');
  await install.click();
  await workbench.page.locator('.monaco-dialog-box .monaco-button', { hasText: 'Install' }).click();
  await workbench.statusBar(connectedText).waitFor({ timeout: 120_000 });
  await workbench.clearNotifications();
  await workbench.treeItem(workload).waitFor();
  await workbench.shot('connected');
});

test('the objects in the cluster have the names and ports that users know', limit, async () => {
  const text = await cluster.kubectl('-n', 'ambassador', 'get', 'po,svc');
  assert.match(text, /pod\/traffic-manager-\S+\s+1\/1\s+Running/);
  assert.match(text, /service\/traffic-manager\s+ClusterIP\s+None\s+<none>\s+8081\/TCP/);
  assert.match(text, /service\/agent-injector\s+ClusterIP\s+10\.100\.\S+\s+<none>\s+8443\/TCP/);
});

test('only the daemon is root; editor and connector are the user’s', limit, async () => {
  const pids = (await workstation.run(['ip', 'netns', 'pids', workstation.namespace], { asRoot: true }).catch(() => ''))
    .split('\n')
    .filter(Boolean);
  const list = await workstation.run(['ps', '-o', 'user:20=,args=', '-p', pids.join(',')], { asRoot: true });
  await writeFile(join(artifacts, 'processes.txt'), list);
  const rows = list.split('\n').filter((row) => row.includes('code-server') || row.includes('nearfield-daemon'));
  const daemons = rows.filter((row) => row.includes('nearfield-daemon run'));
  assert.ok(daemons.length > 0, list);
  assert.ok(
    daemons.every((row) => row.startsWith('root ')),
    list,
  );
  const others = rows.filter((row) => row.includes('code-server'));
  assert.ok(others.length >= 2 && others.every((row) => row.startsWith('nearfield ')), list);
});

test('names of the cluster work in any program of this machine', limit, async () => {
  for (const url of ['http://service-a.service-a-ns:8080', 'http://service-a:8080']) {
    assert.match(await workstation.run(['curl', '-sS', '-m', '10', url]), /^pod service-a-deployment-/);
  }
  assert.match(await workstation.run(['getent', 'hosts', 'service-a.service-a-ns.svc.cluster.local']), /^10\.100\./);
  assert.match(await workstation.run(['getent', 'hosts', 'intranet.office.example']), /^172\.31\./);
});

test('what does not exist says so at once, and what is closed refuses', limit, async () => {
  const podIp = await cluster.kubectl(
    '-n',
    'service-a-ns',
    'get',
    'pod',
    '-l',
    'app=service-a',
    '-o',
    'jsonpath={.items[0].status.podIP}',
  );
  const refused = await failureOf(['curl', '-sS', '-m', '10', `http://${podIp}:81`]);
  assert.match(refused.text, /Failed to connect|refused/i);
  assert.ok(refused.ms < 2_000, `refused after ${refused.ms} ms`);
  const unreachable = await failureOf([
    'python3',
    '-c',
    "import socket; socket.create_connection(('192.168.189.250', 80), 10)",
  ]);
  assert.match(unreachable.text, /No route to host/);
  const unknown = await workstation.run(['dig', '+time=3', '+tries=1', 'nosuch.service-a-ns.svc.cluster.local']);
  assert.match(unknown, /status: NXDOMAIN/);
});

async function failureOf(command: readonly string[]): Promise<{ text: string; ms: number }> {
  const started = performance.now();
  const error = await workstation.run(command).then(
    () => undefined,
    (thrown: unknown) => thrown as Error & { stderr?: string },
  );
  assert.ok(error, `${command.join(' ')} should fail`);
  return { text: `${error.message} ${error.stderr ?? ''}`, ms: performance.now() - started };
}

test(
  'a workload without an agent says so, and a request from a pod stops at a breakpoint after a right-click',
  limit,
  async () => {
    await assertDescription('ready to engage (traffic-agent not yet installed)');
    assert.match(await callFromPod('/before'), /^pod service-a-deployment-/);
    await workbench.setBreakpoint('server.js', 9);
    await workbench.shot('breakpoint-set');
    await workbench.openView();
    await workbench.contextMenu(workload, 'Intercept to This Debug Session', () => workbench.shot('right-click'));
    await workbench.page.locator('.debug-toolbar').waitFor({ timeout: 90_000 });
    await assertDescription('intercepted by you on :3000');
    await workbench.shot('intercepted');
    await waitFor('a pod with both containers ready', 20_000, async () =>
      /2\/2\s+Running/.test(await cluster.kubectl('-n', 'service-a-ns', 'get', 'pods', '-l', 'app=service-a'))
        ? true
        : undefined,
    );
    const containers = await cluster.kubectl(
      '-n',
      'service-a-ns',
      'get',
      'pods',
      '-l',
      'app=service-a',
      '-o',
      'jsonpath={.items[*].spec.containers[*].name}',
    );
    assert.match(containers, /traffic-agent/);
    await stopsAtBreakpoint('/stops-here');
  },
);

test('after the debug session the next request is answered by the pod again', limit, async () => {
  await workbench.command('Debug: Stop');
  await waitFor('the pod’s answer', 20_000, async () =>
    /^pod service-a/.test(await callFromPod('/after')) ? true : undefined,
  );
  await workbench.openView();
  await assertDescription('ready to engage');
  await workbench.shot('left');
});

test('disconnected, this machine is as it was before', limit, async () => {
  await workbench.command('Nearfield: Disconnect');
  await waitFor('the network being down', 10_000, async () =>
    (await networkOf(workstation)) === stripSockets(stateBefore) ? true : undefined,
  );
});

test('a killed extension host leaves nothing, gives the traffic back, and connects again', limit, async () => {
  await workbench.openView();
  await workbench.page.locator('.monaco-button', { hasText: 'Connect' }).first().click();
  await workbench.statusBar(connectedText).waitFor();
  await workstation.run(['pkill', '-9', '-f', 'type=extensionHost']);
  await waitFor('the network being down', 15_000, async () =>
    (await networkOf(workstation)) === stripSockets(stateBefore) ? true : undefined,
  );
  await waitFor('the pod’s answer', 20_000, async () =>
    /^pod service-a/.test(await callFromPod('/host-killed')) ? true : undefined,
  );
  await workbench.shot('extension-host-killed');
  await workbench.page.reload();
  await workbench.page.locator('.monaco-workbench').waitFor();
  await workbench.statusBar('Nearfield').waitFor();
});

test('F5 on a launch configuration does the whole of it, with nothing connected before', limit, async () => {
  await workbench.page.keyboard.press('F5');
  await workbench.page.locator('.debug-toolbar').waitFor({ timeout: 90_000 });
  await workbench.statusBar(connectedText).waitFor();
  await stopsAtBreakpoint('/by-f5');
  await workbench.command('Debug: Stop');
  await waitFor('the pod’s answer', 20_000, async () =>
    /^pod service-a/.test(await callFromPod('/after-f5')) ? true : undefined,
  );
  await workbench.shot('after-f5');
});

async function assertDescription(text: string): Promise<void> {
  await workbench.treeItem(workload).filter({ hasText: text }).waitFor({ timeout: 30_000 });
}

/** While its successor takes over, the pod that was there before may still be asked, and answers itself. */
async function callUntilIntercepted(path: string): Promise<string> {
  const end = performance.now() + 20_000;
  for (;;) {
    const answer = await callFromPod(path);
    if (answer.startsWith('laptop') || performance.now() > end) {
      return answer;
    }
  }
}

async function stopsAtBreakpoint(path: string): Promise<void> {
  // Until the program listens, the pod answers: no request is lost to a program that is still starting.
  await waitFor('the local program', 20_000, async () =>
    (await workstation.run(['ss', '-ltn'])).includes('127.0.0.1:3000') ? true : undefined,
  );
  const answer = callUntilIntercepted(path).catch(String);
  const { page } = workbench;
  await page.locator('.codicon-debug-stackframe').first().waitFor({ timeout: 30_000 });
  await workbench.shot('stopped-at-breakpoint');
  await page.locator('.debug-call-stack, .debug-variables').first().waitFor({ timeout: 20_000 });
  const scope = page.locator('.debug-variables .monaco-list-row', { hasText: 'Local' }).first();
  await scope.waitFor({ timeout: 20_000 });
  if ((await scope.getAttribute('aria-expanded')) !== 'true') {
    await scope.click();
  }
  const value = page.locator('.debug-variables .monaco-list-row', { hasText: 'greeting' }).first();
  await value.waitFor({ timeout: 20_000 });
  assert.match((await value.textContent()) ?? '', /hello from the cluster/);
  await workbench.shot('variables');
  await page.keyboard.press('F5');
  assert.equal((await answer).trim(), `laptop ${path} for node: hello from the cluster`);
}

/** Sockets of an idle daemon stay for a minute; everything that changes the machine must be gone at once. */
const stripSockets = (state: string): string => state.split('\n--\n').slice(0, 4).join('\n--\n');
const networkOf = async (from: Workstation): Promise<string> => stripSockets(await from.state());
