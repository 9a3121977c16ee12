import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { network, stateFolder } from './paths.ts';
import { waitFor } from './shell.ts';

const pidFolder = (): string => join(stateFolder, 'pids');

/** When a process started, in clock ticks since boot: with its pid, a name that is never reused. */
async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

/** Starts a background process and records it. In the node's network namespace unless told otherwise. */
export async function startProcess(
  name: string,
  file: string,
  args: readonly string[],
  namespace: string = network.namespace,
): Promise<void> {
  const log = openSync(join(stateFolder, 'logs', `${name}.log`), 'a');
  // nsenter, not `ip netns exec`: the latter remounts /sys and hides the cgroups.
  const child = spawn('nsenter', [`--net=/run/netns/${namespace}`, file, ...args], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  child.unref();
  const pid = child.pid ?? 0;
  await writeFile(join(pidFolder(), name), `${pid} ${await startTime(pid)}`);
}

export async function processIsAlive(name: string): Promise<boolean> {
  return (await recorded(name)) !== undefined;
}

async function recorded(name: string): Promise<number | undefined> {
  const [pid, started] = (await readFile(join(pidFolder(), name), 'utf8').catch(() => '')).split(' ');
  return pid && started && (await startTime(Number(pid))) === started ? Number(pid) : undefined;
}

export async function processNames(): Promise<string[]> {
  return readdir(pidFolder()).catch(() => []);
}

/** Ends what was started, by recorded pid and start time, never by name. */
export async function stopProcess(name: string): Promise<void> {
  const pid = await recorded(name);
  if (pid !== undefined) {
    kill(pid, 'SIGTERM');
    await waitFor(`the end of ${name}`, 5_000, async () =>
      (await recorded(name)) === undefined ? true : undefined,
    ).catch(() => kill(pid, 'SIGKILL'));
    await waitFor(`the end of ${name}`, 5_000, async () => ((await recorded(name)) === undefined ? true : undefined));
  }
  await rm(join(pidFolder(), name), { force: true });
}

/** Containers outlive containerd: whatever runs below the state folder's containerd is ended by its shim's pid. */
export async function stopShims(): Promise<void> {
  for (const pid of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    const isShim =
      basename(command.split('\0')[0] ?? '').startsWith('containerd-shim') && command.includes(stateFolder);
    if (isShim) {
      for (const child of await descendants(Number(pid))) {
        kill(child, 'SIGKILL');
      }
      kill(Number(pid), 'SIGKILL');
    }
  }
}

async function descendants(pid: number): Promise<number[]> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => ''))
    .split(' ')
    .filter(Boolean)
    .map(Number);
  return [...children, ...(await Promise.all(children.map(descendants))).flat()];
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended by itself.
  }
}
