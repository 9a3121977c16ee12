import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
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

// The modes as a person meets them: menu, questions, tree, and the launch configuration's schema.
const artifacts = join(repositoryRoot, 'test/artifacts/modes');
const workload = 'service-a-deployment';
const limit = { timeout: 240_000 };

let cluster: Cluster;
let workstation: Workstation;
let browser: Browser;
let workbench: Workbench;

before(async () => {
  cluster = await openCluster();
  workstation = await openWorkstation(10);
  const headless = await installHeadless(workstation, cluster.kubeconfig);
  await headless.nearfield('install');
  const editor = await startEditor(workstation, cluster.kubeconfig);
  browser = await openBrowser({ namespace: workstation.namespace, artifacts });
  workbench = await Workbench.open(browser, editor.address, artifacts);
  await workbench.openView();
  await workbench.page.locator('.monaco-button', { hasText: 'Connect' }).first().click();
  await workbench.treeItem(workload).waitFor({ timeout: 120_000 });
}, limit);

after(async () => {
  await workbench?.shot('end').catch(() => undefined);
  await browser?.close();
  await workstation?.down();
}, limit);

const menuItem = (name: string) => workbench.page.getByRole('menuitem', { name }).first();
const input = () => workbench.page.locator('.quick-input-widget input').first();

test('the menu of a workload has the modes, and an ingest opens a terminal with the environment', limit, async () => {
  await workbench.contextMenu(workload, 'Ingest (Environment Only)…', async () => {
    for (const entry of ['Intercept to This Debug Session', 'Intercept with Filter…', 'Wiretap…', 'Replace…']) {
      await menuItem(entry).waitFor();
    }
    await workbench.shot('menu');
  });
  const terminal = workbench.page.locator('.quick-input-list .monaco-list-row', { hasText: 'Open a terminal' });
  await terminal.click();
  await workbench.treeItem(workload).filter({ hasText: 'environment taken by you' }).waitFor();
  await workbench.page.locator('.terminal-wrapper.active .xterm').first().waitFor();
  await workbench.page.locator('.terminal-wrapper.active .xterm-helper-textarea').focus();
  const path = join(workstation.home, 'greeting');
  await workbench.page.keyboard.type(`echo $GREETING > ${path}\n`);
  const greeting = await waitFor(
    'the terminal’s shell',
    30_000,
    async () => (await readFile(path, 'utf8').catch(() => '')) || undefined,
  );
  assert.equal(greeting, 'hello from the cluster\n');
  await workbench.shot('terminal');
});

test('the tree shows the attachment below its workload, where it can be left', limit, async () => {
  await workbench.expand(workload);
  await workbench.contextMenu('Ingest server', 'Leave');
  await workbench.treeItem(workload).filter({ hasText: 'ready to engage' }).waitFor();
});

test(
  'a filter is proposed that is the person’s own, and what cannot be one is said while it is typed',
  limit,
  async () => {
    await workbench.contextMenu(workload, 'Intercept with Filter…');
    await input().waitFor();
    assert.match(await input().inputValue(), /^x-nearfield-user=nearfield$/);
    await input().fill('api');
    await workbench.page.getByText('“api” is neither name=value nor a path nor a method').first().waitFor();
    await workbench.shot('filter');
    await workbench.page.keyboard.press('Escape');
  },
);

test('the editor explains the attribute in a launch configuration of another’s debugger', limit, async () => {
  const { page } = workbench;
  await page.keyboard.press('Control+P');
  await input().waitFor();
  await input().fill('launch.json:11:9');
  await page.locator('.quick-input-list .monaco-list-row').first().waitFor();
  await page.keyboard.press('Enter');
  await page.locator('.monaco-editor.focused').first().waitFor();
  await waitFor('the explanation', 30_000, async () => {
    await workbench.command('Show or Focus Hover');
    const hover = page.locator('.monaco-hover', { hasText: 'The workload: its name, or kind/name.' }).first();
    return (await hover.waitFor({ timeout: 3_000 }).then(
      () => true,
      () => undefined,
    )) as true | undefined;
  });
  await workbench.shot('schema');
  assert.equal(await page.locator('.squiggly-warning').count(), 0);
});
