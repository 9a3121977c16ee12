import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, cp, mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import type { CodeServer } from '../cluster/code-server.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { run, waitFor } from '../cluster/shell.ts';
import { at, isRoot } from './paths.ts';
import type { Person } from './person.ts';

const firstPort = 8090;
const startLimitMs = 60_000;
const endLimitMs = 8_000;

const settings = {
  'workbench.startupEditor': 'readme',
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'workbench.tips.enabled': false,
  'chat.disableAIFeatures': true,
  'security.workspace.trust.enabled': false,
  'telemetry.telemetryLevel': 'off',
  'update.mode': 'none',
  'extensions.autoUpdate': false,
  'extensions.autoCheckUpdates': false,
  'extensions.ignoreRecommendations': true,
  'git.enabled': false,
  'editor.minimap.enabled': false,
  'editor.wordWrap': 'on',
};

export interface EditorOptions {
  readonly codeServer: CodeServer;
  readonly person: Person;
  readonly kubeconfig: string;
  /** The program that speaks kubectl for terminals in the editor, if we have one. */
  readonly kubectl?: readonly string[];
}

export interface Editor {
  readonly address: string;
  readonly ended: Promise<void>;
  close(): Promise<void>;
}

/** Puts the packaged extension where only root can change it, and answers the path of its daemon. */
export async function installExtension({ node, entry }: CodeServer): Promise<string> {
  const extensions = at('extensions');
  await mkdir(extensions, { recursive: true });
  const vsix = join(repositoryRoot, 'dist/nearfield.vsix');
  await run(node, [
    entry,
    '--install-extension',
    vsix,
    '--force',
    ...['--extensions-dir', extensions, '--user-data-dir', at('install')],
  ]);
  await run('chmod', ['-R', 'a+rX,go-w', extensions]);
  const folder = (await readdir(extensions)).find((name) => /^nearfield\.nearfield-\d/.test(name));
  if (!folder) {
    throw new Error(`The extension was not installed into ${extensions}`);
  }
  return join(extensions, folder, 'dist/nearfield-daemon');
}

/** The person's folder: workspace, settings, kubeconfig, and the commands of the terminal. */
export async function furnish({ person, kubeconfig, kubectl }: EditorOptions): Promise<void> {
  const bin = at('bin');
  await mkdir(bin, { recursive: true });
  if (kubectl) {
    const words = kubectl.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    await writeFile(join(bin, 'kubectl'), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
  }
  await mkdir(at('data/User'), { recursive: true });
  await writeFile(at('data/User/settings.json'), JSON.stringify(settings, undefined, 2));
  await cp(join(repositoryRoot, 'test/demo/workspace'), at('workspace'), { recursive: true });
  await writeFile(at('kubeconfig'), kubeconfig, { mode: 0o600 });
  if (isRoot) {
    const owner = `${person.uid}:${person.gid}`;
    await run('chown', ['-R', owner, at('data'), at('workspace'), at('kubeconfig')]);
  }
  await chmod(at(), 0o755);
}

/** Starts the editor in a process group of its own: a Ctrl-C in this terminal is not for it. */
export async function openEditor({ codeServer, person }: EditorOptions): Promise<Editor> {
  const { node, entry } = codeServer;
  const port = await freePort();
  const log = await open(at('code-server.log'), 'w');
  const child = spawn(
    node,
    [
      entry,
      ...['--auth', 'none', '--bind-addr', `127.0.0.1:${port}`],
      ...['--user-data-dir', at('data'), '--extensions-dir', at('extensions'), '--config', at('data/config.yaml')],
      ...['--disable-telemetry', '--disable-update-check', '--disable-workspace-trust', '--ignore-last-opened'],
      // A closed tab leaves the cluster soon, not after three hours.
      ...['--reconnection-grace-time', '60'],
      at('workspace'),
    ],
    {
      cwd: at('workspace'),
      env: environmentOf(person, dirname(node)),
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      ...(isRoot ? { uid: person.uid, gid: person.gid } : {}),
    },
  );
  await log.close();
  const ended = new Promise<void>((resolve) => {
    child.on('exit', () => resolve());
    child.on('error', () => resolve());
  });
  const close = (): Promise<void> => end(child, ended);
  const address = `http://127.0.0.1:${port}/`;
  try {
    await waitFor('the editor being ready', startLimitMs, async () => {
      if (child.exitCode !== null) {
        return false;
      }
      return (await fetch(`${address}healthz`, { signal: AbortSignal.timeout(2_000) })).ok ? true : undefined;
    }).then(async (isReady) => {
      if (!isReady) {
        throw new Error(`code-server ended:\n${(await readFile(at('code-server.log'), 'utf8')).slice(-2_000)}`);
      }
    });
  } catch (error) {
    await close();
    throw error;
  }
  return { address, ended, close };
}

function environmentOf(person: Person, nodeFolder: string): NodeJS.ProcessEnv {
  return {
    HOME: person.home,
    USER: person.name,
    LOGNAME: person.name,
    SHELL: '/bin/bash',
    LANG: process.env['LANG'] ?? 'C.UTF-8',
    PATH: `${at('bin')}:${nodeFolder}:/usr/local/bin:/usr/bin:/bin`,
    KUBECONFIG: at('kubeconfig'),
  };
}

/** The extension gets the time to leave the cluster; then the group goes, with all it has started. */
async function end(child: ChildProcess, ended: Promise<void>): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
    return;
  }
  child.kill('SIGTERM');
  const isLate = await Promise.race([
    ended.then(() => false),
    new Promise<boolean>((resolve) => setTimeout(() => resolve(true), endLimitMs).unref()),
  ]);
  if (isLate) {
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
}

/** The same address every time where that is possible; any other otherwise. */
async function freePort(): Promise<number> {
  for (const wanted of [firstPort, firstPort + 1, firstPort + 2, 0]) {
    const port = await new Promise<number | undefined>((resolve) => {
      const probe = createServer();
      probe.on('error', () => resolve(undefined));
      probe.listen(wanted, '127.0.0.1', () => {
        const address = probe.address();
        probe.close(() => resolve(typeof address === 'object' ? address?.port : undefined));
      });
    });
    if (port !== undefined) {
      return port;
    }
  }
  throw new Error('No port is free on 127.0.0.1');
}
