import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Browser, chromium, type Locator, type Page } from 'playwright-core';

const flags = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export interface BrowserOptions {
  /** The network namespace the browser runs in, or none for this machine's own. */
  readonly namespace?: string;
  readonly artifacts: string;
}

/**
 * Debian's Chromium, in the workstation's network namespace: playwright speaks to it through a pipe, so only the
 * browser itself has to be inside.
 */
export async function openBrowser(options: BrowserOptions): Promise<Browser> {
  await mkdir(options.artifacts, { recursive: true });
  let executablePath = '/usr/bin/chromium';
  if (options.namespace) {
    executablePath = join(options.artifacts, 'chromium-in-namespace.sh');
    await writeFile(
      executablePath,
      `#!/bin/sh\nexec nsenter --net=/run/netns/${options.namespace} /usr/bin/chromium "$@"\n`,
    );
    await chmod(executablePath, 0o755);
  }
  return chromium.launch({ executablePath, args: flags, headless: true, timeout: 60_000 });
}

/** The real workbench, driven by what a person sees: roles, names and texts. */
export class Workbench {
  readonly page: Page;
  readonly #artifacts: string;
  #shots = 0;

  constructor(page: Page, artifacts: string) {
    this.page = page;
    this.#artifacts = artifacts;
  }

  static async open(browser: Browser, address: string, artifacts: string): Promise<Workbench> {
    const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
    page.setDefaultTimeout(60_000);
    await page.goto(address, { timeout: 120_000 });
    await page.locator('.monaco-workbench').waitFor({ timeout: 120_000 });
    return new Workbench(page, artifacts);
  }

  /** Kept as a test artefact: `01-connected.png`. */
  async shot(name: string): Promise<void> {
    this.#shots++;
    await this.page.screenshot({ path: join(this.#artifacts, `${String(this.#shots).padStart(2, '0')}-${name}.png`) });
  }

  /** Runs a command by its title through the palette. */
  async command(title: string): Promise<void> {
    await this.page.keyboard.press('F1');
    const input = this.page.locator('.quick-input-widget input');
    await input.waitFor();
    await input.fill(`>${title}`);
    await this.page.locator('.quick-input-list .monaco-list-row').filter({ hasText: title }).first().click();
  }

  /** A click on the icon of a view that is open would close it. */
  async openView(): Promise<void> {
    const isOpen = await this.page.locator('.sidebar .composite.title', { hasText: 'Nearfield' }).isVisible();
    if (!isOpen) {
      await this.page.locator('.activitybar .action-item a[aria-label^="Nearfield"]').first().click();
    }
  }

  treeItem(text: string | RegExp): Locator {
    return this.page.locator('.sidebar .monaco-list-row').filter({ hasText: text }).first();
  }

  async expand(text: string | RegExp): Promise<void> {
    const row = this.treeItem(text);
    await row.waitFor();
    if ((await row.getAttribute('aria-expanded')) === 'false') {
      await row.locator('.monaco-tl-twistie').click();
    }
  }

  /** `seen` runs while the menu is open. */
  async contextMenu(
    text: string | RegExp,
    entry: string,
    seen: () => Promise<void> = async () => undefined,
  ): Promise<void> {
    await this.treeItem(text).click({ button: 'right' });
    const item = this.page.getByRole('menuitem', { name: entry }).first();
    await item.waitFor();
    await seen();
    // A menu takes no click within its first tenth of a second: the button that opened it may still be going up.
    for (let isOpen = true; isOpen; ) {
      await item.click();
      isOpen = await item.waitFor({ state: 'hidden', timeout: 500 }).then(
        () => false,
        () => true,
      );
    }
  }

  /** Opens a file by its name and sets a breakpoint on a line, by keyboard. */
  async setBreakpoint(file: string, line: number): Promise<void> {
    await this.page.keyboard.press('Control+P');
    const input = this.page.locator('.quick-input-widget input');
    await input.waitFor();
    await input.fill(`${file}:${line}`);
    await this.page.locator('.quick-input-list .monaco-list-row').first().waitFor();
    await this.page.keyboard.press('Enter');
    await this.page.locator('.monaco-editor .view-lines').first().waitFor();
    await this.page.locator('.monaco-editor.focused').first().waitFor();
    await this.page.keyboard.press('F9');
    await this.page.locator('.codicon-debug-breakpoint').first().waitFor();
  }

  statusBar(text: string | RegExp): Locator {
    return this.page.locator('.statusbar-item').filter({ hasText: text }).first();
  }

  async clearNotifications(): Promise<void> {
    await this.command('Notifications: Clear All Notifications');
  }
}
