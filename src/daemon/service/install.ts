import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { lstat, mkdir, open, readdir, readFile, readlink, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { daemonInstallFolder, daemonInstallPath } from '../../protocol/index.ts';
import { digestMismatch, unsafeFolder } from '../errors.ts';

const groupOrOtherWrite = 0o022;

/** SHA-256 as 64 hex digits. */
const isDigest = (text: string): boolean => /^[0-9a-f]{64}$/.test(text);

/**
 * Copies this very executable to root's folder: the bytes that were hashed are the bytes that are written, so nobody can
 * exchange the file between the check and the use. Answers the copy's path.
 * Errors: `daemon.digest-mismatch`, `daemon.unsafe-folder`.
 */
export async function installSelf(
  digest: string,
  {
    executable = process.platform === 'linux' ? '/proc/self/exe' : process.execPath,
    folder = daemonInstallFolder,
  } = {},
): Promise<string> {
  const bytes = await readFile(executable);
  const found = createHash('sha256').update(bytes).digest();
  if (!isDigest(digest) || !timingSafeEqual(found, Buffer.from(digest, 'hex'))) {
    throw digestMismatch();
  }
  const target = daemonInstallPath(digest, folder);
  await mkdir(dirname(target), { recursive: true, mode: 0o755 });
  await checkRootOnly(dirname(target));
  const temporary = `${target}.${randomBytes(6).toString('hex')}`;
  const file = await open(temporary, 'wx', 0o755);
  try {
    await file.writeFile(bytes);
    await file.chmod(0o755);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, target);
  await removeEarlier(target, folder);
  return target;
}

/** Errors: `daemon.unsafe-folder` when anybody but root could exchange what is in it. */
export async function checkRootOnly(folder: string): Promise<void> {
  for (let at = await realpath(folder); ; at = dirname(at)) {
    const { uid, mode } = await lstat(at);
    if (uid !== 0 || (mode & groupOrOtherWrite) !== 0) {
      throw unsafeFolder(at);
    }
    if (at === dirname(at)) {
      return;
    }
  }
}

/** Removes every copy, unless one runs for somebody. What runs now may be one of them. */
export async function removeInstalled(folder = daemonInstallFolder): Promise<void> {
  const running = [...(await runningPrograms())];
  if (!running.some((path) => path.startsWith(`${folder}/`))) {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Earlier versions go, unless one runs for somebody. */
export async function removeEarlier(kept: string, folder = daemonInstallFolder): Promise<void> {
  const running = await runningPrograms();
  for (const name of await readdir(folder)) {
    const other = join(folder, name);
    if (other !== dirname(kept) && !running.has(join(other, basename(kept)))) {
      await rm(other, { recursive: true, force: true });
    }
  }
}

/** What other processes run. */
async function runningPrograms(): Promise<ReadonlySet<string>> {
  // Without /proc nobody knows; a program that is removed while it runs goes on.
  const names = await readdir('/proc').catch(() => []);
  const pids = names.filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  const paths = await Promise.all(pids.map((pid) => readlink(`/proc/${pid}/exe`).catch(() => '')));
  return new Set(paths.map((path) => path.replace(/ \(deleted\)$/, '')));
}
