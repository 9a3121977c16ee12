import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { dirname } from 'node:path';
import { type Clock, type Disposable, type Logger, sleep } from '../../base/index.ts';
import { type DaemonSocketPaths, daemonSocketPaths } from '../../protocol/index.ts';
import type { Platform } from '../os/contract.ts';
import { answers, listen, removeSockets } from './sockets.ts';

const waitLimitMs = 5_000;
const waitStepMs = 50;

/** Where a clean-up in progress is known by: beside the user's directory, so that only root can say so. */
const lockPath = ({ directory }: DaemonSocketPaths): string => `${directory}.cleanup`;

/**
 * Starts the process that cleans up if this one is killed. It waits on a pipe that ends with us, in a session of its own,
 * and is a shell's `cat` until then: a megabyte, not another Node.
 */
export function startJanitor(command: readonly string[], log: Logger): Disposable {
  const child: ChildProcess = spawn('/bin/sh', ['-c', 'cat > /dev/null; exec "$@"', 'nearfield-janitor', ...command], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
  });
  child.on('error', (error) => log.warn('nobody cleans up if this process is killed', { error }));
  child.stdin?.on('error', () => undefined);
  child.unref();
  return {
    dispose: () => {
      // Whole session: the shell and its `cat`.
      if (child.pid !== undefined && child.exitCode === null) {
        try {
          process.kill(-child.pid, 'SIGKILL');
        } catch {
          // Gone already.
        }
      }
    },
  };
}

/** Removes what a killed daemon left, unless another one runs by now. */
export async function cleanUpAfter(platform: Platform, clock: Clock, uid: number, runtime: string): Promise<void> {
  const paths = daemonSocketPaths(uid, runtime);
  const lock = await takeLock(paths);
  try {
    if (!(await answers(paths.control, clock))) {
      await platform.cleanUp(uid);
      removeSockets(paths);
    }
  } finally {
    lock.close();
    rmSync(lockPath(paths), { force: true });
  }
}

/** Waits for a clean-up that is under way: it must not take away what is made next. True when there was one. */
export async function waitForCleanUp(paths: DaemonSocketPaths, clock: Clock): Promise<boolean> {
  const start = clock.nowMs();
  let was = false;
  while (clock.nowMs() - start < waitLimitMs && (await answers(lockPath(paths), clock))) {
    was = true;
    await sleep(clock, waitStepMs);
  }
  return was;
}

async function takeLock(paths: DaemonSocketPaths): Promise<Server> {
  mkdirSync(dirname(paths.directory), { recursive: true, mode: 0o755 });
  const server = createServer((socket) => socket.destroy());
  await listen(server, lockPath(paths));
  return server;
}
