import { createHash } from 'node:crypto';
import { access, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cached } from './cache.ts';
import { cacheFolder } from './paths.ts';
import { ensurePrerequisites } from './prerequisites.ts';
import { run, step } from './shell.ts';

const version = '4.139.1';
const installLimitMs = 20 * 60_000;

/** A VS Code for the browser. Both paths are readable by every user of the machine. */
export interface CodeServer {
  readonly node: string;
  readonly entry: string;
}

/**
 * code-server from npm, installed once into the cache with a Node of its own: its native modules are compiled against
 * that Node's headers, which the package `node` does not carry.
 */
export async function ensureCodeServer(): Promise<CodeServer> {
  const nodeVersion = process.versions.node;
  const nodePackage = `node-${process.platform}-${process.arch}`;
  const key = createHash('sha256').update(`${version} ${nodePackage} ${nodeVersion}`).digest('hex').slice(0, 16);
  const folder = await cached('code-server', key, async (target) => {
    await removeHalfInstalls(`code-server-${key}`, target);
    await ensurePrerequisites(['/usr/bin/gcc', '/usr/bin/make', '/usr/include/gssapi/gssapi.h']);
    await mkdir(target, { recursive: true });
    await step(`fetching Node ${nodeVersion} with headers`, () =>
      npmInstall(target, `${nodePackage}@${nodeVersion}`, process.env),
    );
    const nodeFolder = join(target, 'node_modules', nodePackage);
    await step(`installing code-server ${version} (about two minutes the first time)`, () =>
      npmInstall(target, `code-server@${version}`, {
        ...process.env,
        PATH: `${join(nodeFolder, 'bin')}:${process.env['PATH']}`,
        npm_config_nodedir: nodeFolder,
      }),
    );
    await access(join(target, 'node_modules/code-server/out/node/entry.js'));
  });
  return {
    node: join(folder, 'node_modules', nodePackage, 'bin/node'),
    entry: join(folder, 'node_modules/code-server/out/node/entry.js'),
  };
}

/** `--no-save`-less on purpose: the second install must know of the first, or npm prunes it. */
async function npmInstall(prefix: string, what: string, env: NodeJS.ProcessEnv): Promise<void> {
  // An outer npm names its own Node in the user agent, and code-server believes that rather than the Node it runs on.
  const clean = Object.entries(env).filter(
    ([name]) => !/^npm_(lifecycle|package|config_local|config_user_agent)/.test(name),
  );
  await run('npm', ['install', '--prefix', prefix, '--no-audit', '--no-fund', '--loglevel=error', what], {
    cwd: prefix,
    env: Object.fromEntries(clean),
    timeoutMs: installLimitMs,
  });
}

/** What a killed install has left. An install that still runs keeps its folder: its process lives. */
async function removeHalfInstalls(entry: string, own: string): Promise<void> {
  const folder = join(cacheFolder, entry);
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    const pid = /^code-server\.(\d+)$/.exec(name)?.[1];
    if (pid && dirname(own) === folder && path !== own && !(await isAlive(pid))) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

const isAlive = (pid: string): Promise<boolean> =>
  access(`/proc/${pid}`).then(
    () => true,
    () => false,
  );
