import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { type Cluster, openCluster } from '../cluster/cluster.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { waitFor } from '../cluster/shell.ts';
import { startEditor } from '../support/editor.ts';
import { installHeadless } from '../support/headless.ts';
import { openWorkstation, type Workstation } from '../support/workstation.ts';
import { openBrowser, Workbench } from './support/browser.ts';

// Somebody who may not become root: asked once, refused, and Nearfield works all the same, one rung lower.
const artifacts = join(repositoryRoot, 'test/artifacts/no-root');
const limit = { timeout: 240_000 };
const triesOfSudo = 3;

let cluster: Cluster;
let workstation: Workstation;
let browser: Browser;
let workbench: Workbench;
let networkBefore: string;
let proxyPorts: string[] = [];

before(async () => {
  cluster = await openCluster();
  workstation = await openWorkstation(11);
  const headless = await installHeadless(workstation, cluster.kubeconfig);
  await headless.nearfield('install');
  const editor = await startEditor(workstation, cluster.kubeconfig, {
    mayBecomeRoot: false,
    // What a terminal says is in the page only when it is drawn as text.
    settings: { 'terminal.integrated.gpuAcceleration': 'off' },
  });
  networkBefore = await network();
  browser = await openBrowser({ namespace: workstation.namespace, artifacts });
  workbench = await Workbench.open(browser, editor.address, artifacts);
}, limit);

after(async () => {
  await workbench?.shot('end').catch(() => undefined);
  await browser?.close();
  await workstation?.down();
}, limit);

/** Addresses, routes, tables and the resolver. */
const network = async (): Promise<string> => (await workstation.state()).split('\n--\n').slice(0, 4).join('\n--\n');
const callFromPod = (path: string): Promise<string> => {
  const script = `fetch('http://service-a.service-a-ns:8080${path}').then((r) => r.text()).then((t) => console.log(t.trim()))`;
  return cluster.kubectl('-n', 'service-b-ns', 'exec', 'deploy/caller', '--', 'node', '-e', script);
};

test('a password that is refused leads to the proxies, and the view says what they lack', limit, async () => {
  const { page } = workbench;
  await workbench.openView();
  await page.locator('.monaco-button', { hasText: 'Connect' }).first().click();
  const terminal = page.locator('.terminal-wrapper.active');
  await terminal.filter({ hasText: 'Password of nearfield' }).waitFor();
  await workbench.shot('asked');
  for (let asked = 1; asked <= triesOfSudo; asked++) {
    await page.locator('.terminal-wrapper.active .xterm-helper-textarea').focus();
    await page.keyboard.type(`wrong-${asked}\n`);
    if (asked < triesOfSudo) {
      await waitFor('sudo asking again', 20_000, async () => {
        const text = (await terminal.textContent()) ?? '';
        return text.split('Password of nearfield').length > asked + 1 ? true : undefined;
      });
    }
  }
  await workbench.statusBar(/connected service-a-ns@/).waitFor({ timeout: 60_000 });
  await page
    .locator('.notification-list-item', { hasText: 'works without root: only programs that you debug from here' })
    .waitFor();
  const row = workbench.treeItem('Without root');
  await row.waitFor();
  proxyPorts = [...((await row.textContent()) ?? '').matchAll(/127\.0\.0\.1:(\d+)/g)].map(([, port]) => port ?? '');
  assert.equal(proxyPorts.length, 2);
  await workbench.treeItem('Other programs do not resolve the names of the cluster.').waitFor();
  await workbench.shot('without-root');
  assert.equal(await network(), networkBefore);
});

test('F5 gives the debugged program the proxies, and a request inside the cluster reaches it', limit, async () => {
  const { page } = workbench;
  await workbench.clearNotifications();
  await page.keyboard.press('F5');
  await page.locator('.debug-toolbar').waitFor({ timeout: 90_000 });
  await waitFor('the laptop’s answer', 60_000, async () =>
    /^laptop \/by-f5 /.test(await callFromPod('/by-f5')) ? true : undefined,
  );
  const [pid = ''] = (await workstation.run(['pgrep', '-u', String(workstation.uid), '-f', 'server\\.js$'])).split(
    '\n',
  );
  const names = (await workstation.run(['cat', `/proc/${pid}/environ`], { asRoot: true }))
    .split('\0')
    .map((each) => each.split('=')[0]);
  for (const name of ['HTTP_PROXY', 'ALL_PROXY', 'NODE_USE_ENV_PROXY']) {
    assert.ok(names.includes(name), `${name} is not in the debuggee’s environment`);
  }
  await workbench.shot('debugging');
  await workbench.command('Debug: Stop');
  await waitFor('the pod’s answer', 20_000, async () =>
    /^pod service-a/.test(await callFromPod('/after')) ? true : undefined,
  );
});

test('disconnected, nothing of it is left', limit, async () => {
  await workbench.command('Nearfield: Disconnect');
  await waitFor('no listener of the proxies', 20_000, async () => {
    const listeners = await workstation.run(['ss', '-ltn']);
    return proxyPorts.some((port) => listeners.includes(`:${port} `)) ? undefined : true;
  });
  assert.equal(await network(), networkBefore);
});
