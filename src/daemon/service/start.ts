import { spawn } from 'node:child_process';
import { type Clock, withTimeout } from '../../base/index.ts';
import { notStarted } from '../errors.ts';

const readyLimitMs = 10_000;

/** Starts the installed daemon in a session of its own; resolves once it serves. Errors: `daemon.not-started`. */
export function startDetached(path: string, args: readonly string[], clock: Clock): Promise<void> {
  const child = spawn(path, args, {
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
  });
  return withTimeout(
    clock,
    readyLimitMs,
    'the daemon',
    () =>
      new Promise<void>((resolve, reject) => {
        child.once('error', (error) => reject(notStarted(error)));
        child.once('exit', () => reject(notStarted()));
        child.stdout?.once('data', () => resolve());
      }),
  ).finally(() => {
    child.stdout?.destroy();
    child.unref();
  });
}
