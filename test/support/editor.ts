import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ensureCodeServer } from '../cluster/code-server.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { step, waitFor } from '../cluster/shell.ts';
import type { Workstation } from './workstation.ts';

export interface Editor {
  readonly address: string;
  readonly extensionFolder: string;
  readonly logPath: string;
}

const port = 8090;

export interface EditorOptions {
  /** Beside those that keep the editor quiet. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** The person may become root without a password. */
  readonly mayBecomeRoot?: boolean;
}

/** A real VS Code, run by the ordinary user, with the packaged extension installed from its VSIX. */
export async function startEditor(
  workstation: Workstation,
  kubeconfig: string,
  { settings: more = {}, mayBecomeRoot = true }: EditorOptions = {},
): Promise<Editor> {
  const { node, entry } = await ensureCodeServer();
  await workstation.give(kubeconfig, 'kubeconfig');
  const vsix = await workstation.give(join(repositoryRoot, 'dist/nearfield.vsix'), 'nearfield.vsix');
  const folder = await workstation.give(join(repositoryRoot, 'test/demo/workspace'), 'workspace');
  const extensions = join(workstation.home, 'extensions');
  const settings = {
    'workbench.startupEditor': 'none',
    'chat.disableAIFeatures': true,
    'workbench.secondarySideBar.defaultVisibility': 'hidden',
    ...more,
  };
  await mkdir(join(workstation.home, 'data/User'), { recursive: true });
  await writeFile(join(workstation.home, 'data/User/settings.json'), JSON.stringify(settings));
  await workstation.own('data');
  const common = ['--user-data-dir', join(workstation.home, 'data'), '--extensions-dir', extensions];
  await step('installing the extension into the editor', () =>
    workstation.run([node, entry, ...common, '--install-extension', vsix], { timeoutMs: 120_000 }),
  );
  const installed = (await readdir(extensions)).find((name) => name.startsWith('nearfield.nearfield-'));
  const extensionFolder = join(extensions, installed ?? '');
  if (mayBecomeRoot) {
    await workstation.allowSudo(join(extensionFolder, 'dist/nearfield-daemon'));
  }
  const logPath = join(workstation.home, 'editor.log');
  const quiet = [
    '--auth',
    'none',
    '--disable-telemetry',
    '--disable-update-check',
    '--disable-workspace-trust',
    '--disable-getting-started-override',
  ];
  workstation.start([node, entry, ...common, ...quiet, '--bind-addr', `127.0.0.1:${port}`, folder], logPath);
  const address = `http://127.0.0.1:${port}/?folder=${folder}`;
  await waitFor('the editor', 60_000, async () =>
    (await workstation.run(['curl', '-fsS', '-m', '3', `http://127.0.0.1:${port}/healthz`])).length > 0
      ? true
      : undefined,
  );
  return { address, extensionFolder, logPath };
}
