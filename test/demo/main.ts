import { spawn } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { nodeBinary } from '../cluster/cache.ts';
import { openCluster } from '../cluster/cluster.ts';
import { ensureCodeServer } from '../cluster/code-server.ts';
import { destroyNode, nodeIsHealthy } from '../cluster/node.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { ensurePrerequisites, ensureRoot } from '../cluster/prerequisites.ts';
import { step } from '../cluster/shell.ts';
import { endDaemon } from './daemon.ts';
import { type Editor, type EditorOptions, furnish, installExtension, openEditor } from './editor.ts';
import { readSelfContained } from './kubeconfig.ts';
import { at, demoFolder } from './paths.ts';
import { ensurePerson, type Person, permitDaemon, removePerson } from './person.ts';

const usage = `usage: npm run demo [-- --kubeconfig FILE] [-- --no-build]
  --kubeconfig FILE  use this cluster and boot none
  --no-build         take dist/ as it is
`;
const neededForEditor = ['/usr/bin/gcc', '/usr/bin/make', '/usr/bin/sudo', '/usr/sbin/ip', '/usr/sbin/nft'];

/** What has to be undone, last first. Filled while things come up, so that a stop at any moment leaves nothing. */
type Undo = (() => Promise<void>)[];

interface Ground {
  readonly kubeconfig: string;
  readonly kubectl?: readonly string[];
}

/** The embedded cluster, or the one that was given: that one gets nothing but what the person clicks. */
async function prepareCluster(given: string | undefined, undo: Undo): Promise<Ground> {
  if (given) {
    return { kubeconfig: await readSelfContained(given) };
  }
  const binary = await nodeBinary();
  const wasUp = await nodeIsHealthy(binary);
  if (!wasUp) {
    undo.push(destroyNode);
  }
  const cluster = await openCluster();
  return { kubeconfig: await readSelfContained(cluster.kubeconfig), kubectl: [binary, 'kubectl'] };
}

function build(): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['esbuild.mjs', '--production', '--package'], {
      cwd: repositoryRoot,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    child.on('error', reject);
    child.on('exit', (code) => (code === 0 ? resolve() : reject(new Error('The build failed'))));
  });
}

async function prepareEditor(
  ground: Ground,
  undo: Undo,
  signal: AbortSignal,
): Promise<{ editor: Editor; person: Person }> {
  const codeServer = await ensureCodeServer();
  signal.throwIfAborted();
  const person = await ensurePerson();
  let daemon: string | undefined;
  undo.push(() => endDaemon(person, daemon));
  const options: EditorOptions = { codeServer, person, ...ground };
  await step('installing the extension', async () => {
    daemon = await installExtension(codeServer);
    await furnish(options);
    await permitDaemon(person, daemon);
  });
  const editor = await step('starting VS Code', () => openEditor(options));
  undo.push(() => editor.close());
  return { editor, person };
}

function invitation(address: string, { name, isOurs }: Person, isOwnCluster: boolean): string {
  const port = new URL(address).port;
  const workload = isOwnCluster ? 'service-a-ns → service-a-deployment' : 'your namespace → a workload of yours';
  const call = isOwnCluster ? 'curl service-a.service-a-ns:8080' : 'curl <service>.<namespace>:<port>';
  return `
  Open       ${address}
             (on another machine: ssh -L ${port}:127.0.0.1:${port} <this machine>, and the same address there)

  1. Connect    Click the Nearfield icon in the bar on the left, then Connect. A cluster without a traffic-manager
                offers Install. Then try a terminal (Ctrl+\`):  ${call}
  2. Intercept  In the tree: ${workload}; right-click it, then Intercept to This Debug Session.
                Set a breakpoint on response.end in server.js and call again: the request stops there.
  3. Leave      Stop the debugger. Call again: the pod answers.

  The editor runs as ${name}${isOurs ? ', an account for this demo that may start the daemon as root and nothing else' : ''}.
  Ctrl-C takes everything down.
`;
}

async function takeDown(undo: Undo): Promise<void> {
  for (const each of undo.splice(0).reverse()) {
    await each().catch((error: unknown) => console.error(error instanceof Error ? error.message : error));
  }
}

/** One demo at a time. What one that was killed has left is removed. */
async function claimFolder(undo: Undo): Promise<void> {
  const other = Number(await readFile(at('pid'), 'utf8').catch(() => ''));
  const command = other ? await readFile(`/proc/${other}/cmdline`, 'utf8').catch(() => '') : '';
  if (command.includes('demo/main.ts')) {
    throw new Error(`A demo is running already, as process ${other}. End it with Ctrl-C first.`);
  }
  const remove = async (): Promise<void> => {
    await removePerson();
    await rm(demoFolder, { recursive: true, force: true });
  };
  await remove();
  await mkdir(demoFolder, { recursive: true, mode: 0o755 });
  await writeFile(at('pid'), String(process.pid));
  undo.push(remove);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      kubeconfig: { type: 'string' },
      'no-build': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const given = values.kubeconfig ?? process.env['NEARFIELD_TEST_KUBECONFIG'];
  if (!given) {
    await ensureRoot();
  }
  const stop = new AbortController();
  const stopped = new Promise<undefined>((resolve) => {
    stop.signal.addEventListener('abort', () => resolve(undefined));
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => stop.abort(new Error('stopped')));
  }
  const undo: Undo = [];
  const up = (async () => {
    await claimFolder(undo);
    await ensurePrerequisites(given ? neededForEditor : undefined);
    if (!values['no-build']) {
      await step('building the extension, the daemon and the cluster image', build);
    }
    stop.signal.throwIfAborted();
    const ground = await prepareCluster(given, undo);
    stop.signal.throwIfAborted();
    return prepareEditor(ground, undo, stop.signal);
  })();
  let code = 0;
  try {
    const ready = await Promise.race([up, stopped]);
    if (ready) {
      process.stdout.write(invitation(ready.editor.address, ready.person, !given));
      await Promise.race([stopped, ready.editor.ended]);
      if (!stop.signal.aborted) {
        throw new Error('VS Code ended by itself.');
      }
    }
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    code = 1;
  }
  // What is just being made is finished or fails first: undoing beside it would miss it.
  await up.catch(() => undefined);
  await step('taking the demo down', () => takeDown(undo));
  return code;
}

process.exitCode = await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  return 1;
});
