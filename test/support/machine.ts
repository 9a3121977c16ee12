import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { repositoryRoot } from '../cluster/paths.ts';
import { run, waitFor } from '../cluster/shell.ts';
import type { ProgramOptions, ProgramReady } from './fake-connector.ts';

const readyLimitMs = 20_000;

/**
 * A machine to change: network, mounts and processes of its own, a fresh /run, and an /etc to write. Nothing done in
 * it reaches the machine that the test runs on, and it is gone with the test's process, however that ends.
 */
export interface Machine {
  /** A folder that both sides see; the daemon's sockets are there. */
  readonly folder: string;
  /** The daemon's bundle, built with the machine. */
  readonly daemon: string;
  run(command: readonly string[], options?: { readonly timeoutMs?: number }): Promise<string>;
  /** Starts a program that goes on. */
  start(command: readonly string[]): MachineProcess;
  close(): Promise<void>;
}

export interface MachineProcess {
  readonly child: ChildProcess;
  /** Everything that was said on standard error. */
  readonly log: () => string;
  /** The next line of standard output; rejects when the program ends first. */
  line(): Promise<string>;
  kill(signal?: NodeJS.Signals): Promise<void>;
}

/** `packages`: the files of Debian packages that it has besides those of this machine, from `unpacked`. */
export async function openMachine({ packages }: { readonly packages?: string } = {}): Promise<Machine> {
  const folder = await mkdtemp(join(tmpdir(), 'nearfield-machine-'));
  // `cat` ends with this process's end of the pipe, and all that runs inside with `cat`, which is process 1 there.
  const holder = spawn(
    'unshare',
    ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private', 'cat'],
    { stdio: ['pipe', 'ignore', 'inherit'] },
  );
  const inner = await waitFor('the namespaces', 5_000, async () => {
    const children = await readFile(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8');
    const pid = children.trim();
    return pid !== '' && (await readFile(`/proc/${pid}/comm`, 'utf8')).trim() === 'cat' ? pid : undefined;
  });
  const enter = ['--target', inner, '--net', '--mount', '--pid', '--wd=/', '--'];
  const started: ChildProcess[] = [];
  const machine: Machine = {
    folder,
    daemon: await buildDaemon(folder),
    run: ([...command], options = {}) => run('nsenter', [...enter, ...command], { timeoutMs: 20_000, ...options }),
    start(command) {
      const child = spawn('nsenter', [...enter, ...command], { stdio: ['pipe', 'pipe', 'pipe'] });
      started.push(child);
      return processOf(child);
    },
    async close() {
      const ended = once(holder, 'exit');
      holder.stdin.end();
      // One that stopped with its program would not take note of its end, and the namespace would wait.
      for (const child of started) {
        child.kill('SIGKILL');
      }
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
  await machine.run(['mount', '-t', 'tmpfs', 'tmpfs', '/run']);
  // Copies that may be written: of /etc, and with it of the resolver's configuration, and of the programs.
  for (const name of packages === undefined ? ['etc'] : ['etc', 'usr']) {
    const [upper, work] = [`/run/layers/${name}`, `/run/layers/${name}-work`];
    const lower = packages === undefined ? `/${name}` : `${packages}/${name}:/${name}`;
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    await machine.run(['mkdir', '-p', upper, work]);
    await machine.run(['mount', '-t', 'overlay', 'overlay', '-o', options, `/${name}`]);
  }
  await machine.run(['ip', 'link', 'set', 'lo', 'up']);
  return machine;
}

function processOf(child: ChildProcess): MachineProcess {
  let said = '';
  const lines: string[] = [];
  const waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  child.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-100_000);
  });
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const next = waiting.shift();
      if (next) {
        next.resolve(line);
      } else {
        lines.push(line);
      }
    });
  }
  const ended = once(child, 'close');
  void ended.then(() => {
    for (const { reject } of waiting) {
      reject(new Error(`the program ended: ${said}`));
    }
  });
  return {
    child,
    log: () => said,
    line: () => {
      const line = lines.shift();
      return line === undefined
        ? new Promise((resolve, reject) => void waiting.push({ resolve, reject }))
        : Promise.resolve(line);
    },
    async kill(signal = 'SIGTERM') {
      // nsenter has become the program itself, but for a process namespace it forks: the program is its child.
      const pid = await childOf(child.pid);
      if (child.exitCode === null && child.signalCode === null && pid !== undefined) {
        process.kill(pid, signal);
      }
      await ended;
    },
  };
}

async function childOf(pid: number | undefined): Promise<number | undefined> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  const child = Number(text.trim().split(' ')[0]);
  return child > 0 ? child : pid;
}

const build = `
import { copyFile } from 'node:fs/promises';
import { buildAddon } from './src/daemon/package-sea.mjs';
await import('./esbuild.mjs');
await buildAddon();
for (const name of ['daemon.cjs', 'tun-linux.node']) {
  await copyFile('dist/' + name, process.env.TARGET + '/' + name);
}
`;

/**
 * The bundle and the device addon as they are in the tree now, in the machine's own folder: test files run side by
 * side, and must not find each other's half-written ones.
 */
async function buildDaemon(folder: string): Promise<string> {
  await mkdir(join(repositoryRoot, 'dist'), { recursive: true });
  await run(
    'flock',
    [
      join(repositoryRoot, 'dist/.lock'),
      ...[process.execPath, '--input-type=module', '--eval', build, '--', '--only=daemon'],
    ],
    { cwd: repositoryRoot, env: { ...process.env, TARGET: folder } },
  );
  return join(folder, 'daemon.cjs');
}

/** Starts the daemon of the tree in the machine; resolves when it is ready. */
export async function startDaemon(machine: Machine, uid = 0): Promise<MachineProcess> {
  const program = machine.start([
    process.execPath,
    machine.daemon,
    ...['run', '--uid', String(uid), '--gid', String(uid), '--runtime-dir', machine.folder],
  ]);
  const line = await within(program.line(), 'the daemon');
  if (line !== 'ready') {
    throw new Error(`the daemon said ${line}: ${program.log()}`);
  }
  return program;
}

/** Starts a fake connector inside the machine; resolves when its network is up. */
export async function startConnector(
  machine: Machine,
  options: Partial<ProgramOptions> = {},
): Promise<ProgramReady & { readonly process: MachineProcess }> {
  const program = machine.start([
    process.execPath,
    join(repositoryRoot, 'test/support/fake-connector.ts'),
    JSON.stringify({ uid: 0, runtimeDirectory: machine.folder, ...options } satisfies ProgramOptions),
  ]);
  const line = await within(program.line(), 'the connector');
  return { ...(JSON.parse(line) as ProgramReady), process: program };
}

function within<T>(promise: Promise<T>, what: string): Promise<T> {
  return Promise.race([
    promise,
    new Promise<never>((_, reject) => {
      setTimeout(() => reject(new Error(`${what} was not ready in time`)), readyLimitMs).unref();
    }),
  ]);
}
