import { chmodSync, lchownSync, lstatSync, mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { type Clock, withTimeout } from '../../base/index.ts';
import { type DaemonSocketPaths, isPipe } from '../../protocol/index.ts';

const probeTimeoutMs = 1_000;

/**
 * Makes the user's directory and opens the servers in it. The directory is root's until everything is in place: the
 * user could otherwise put a link where a socket is about to change its owner, and be given somebody else's file.
 */
export async function openSockets(
  paths: DaemonSocketPaths,
  owner: { readonly uid: number; readonly gid: number },
  servers: readonly (readonly [server: Server, path: string])[],
): Promise<void> {
  if (isPipe(paths.directory)) {
    // As they are made, only administrators may write to them.
    for (const [server, path] of servers) {
      await listen(server, path);
    }
    return;
  }
  mkdirSync(paths.directory, { recursive: true, mode: 0o755 });
  if (!lstatSync(paths.directory).isDirectory()) {
    throw new TypeError(`${paths.directory} is not a directory`);
  }
  lchownSync(paths.directory, 0, 0);
  chmodSync(paths.directory, 0o700);
  for (const [server, path] of servers) {
    await listen(server, path);
    lchownSync(path, owner.uid, owner.gid);
    chmodSync(path, 0o600);
  }
  lchownSync(paths.directory, owner.uid, owner.gid);
}

/** Removes what a daemon that is gone has left; links are removed, never followed. */
export function removeSockets(paths: DaemonSocketPaths): void {
  if (isPipe(paths.directory)) {
    return;
  }
  for (const path of [paths.control, paths.dial]) {
    rmSync(path, { force: true });
  }
  try {
    rmdirSync(paths.directory);
  } catch {
    // Somebody else's file is in it, or it was never made.
  }
}

/** True when somebody listens there. */
export function answers(path: string, clock: Clock): Promise<boolean> {
  const socket = connect(path);
  return withTimeout(
    clock,
    probeTimeoutMs,
    'whoever listens',
    () =>
      new Promise<boolean>((resolve) => {
        socket.once('connect', () => resolve(true));
        socket.on('error', () => resolve(false));
      }),
  )
    .catch(() => false)
    .finally(() => socket.destroy());
}

/** Listens on a path, whatever was there. */
export function listen(server: Server, path: string): Promise<void> {
  if (!isPipe(path)) {
    rmSync(path, { force: true });
  }
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
