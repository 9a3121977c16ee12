import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readdir, readlink, realpath, rm, rmdir, symlink, unlink } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { basename, dirname, join, resolve } from 'node:path';
import { type Clock, type Disposable, type Logger, toError } from '../../base/index.ts';
import { mountFolderTaken } from '../errors.ts';
import type { MountTable } from './mount-table.ts';

export interface FolderDeps {
  /** A folder of the user's, for volumes only. Several connectors share it. */
  readonly base: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly table: MountTable;
}

/** As long as a program that listens there takes to say so; the kernel does it for it. */
const knockTimeoutMs = 1_000;
const folderPrefix = 'v-';
const lifeSuffix = '.sock';
/** In the folder of an attachment: leads to the place where a person wanted it. */
const wishName = '.wish';
/** There was an empty folder, which comes back. */
const wasFolderName = '.was-folder';
const stagingName = '.staging';

/** An attachment's files: gone with it. */
export interface AttachmentFolder {
  /** What programs are told; where a person wanted it, or ours. */
  readonly root: string;
  /** Where they really are: a person's link may be changed meanwhile. */
  readonly files: string;
  /** Of the volumes' file system, for files that are being made. */
  readonly staging: string;
  remove(): Promise<void>;
}

/**
 * The folder of one connector, private to the user. Beside it is a socket that is open for as long as the connector lives: what
 * lies in a folder whose socket nobody answers was left by a crash, and the next connector removes it.
 */
export class MountFolder implements Disposable {
  readonly #deps: FolderDeps;
  readonly #own: string;
  readonly #life: Server;

  private constructor(deps: FolderDeps, own: string, life: Server) {
    this.#deps = deps;
    this.#own = own;
    this.#life = life;
  }

  static async open(deps: FolderDeps): Promise<MountFolder> {
    await mkdir(deps.base, { recursive: true, mode: 0o700 });
    await cleanUp(deps);
    const own = join(await realpath(deps.base), `${folderPrefix}${randomBytes(4).toString('hex')}`);
    // First the sign of life, then what it speaks for.
    const life = createServer((socket) => socket.destroy());
    await new Promise<void>((done, fail) => {
      life.once('error', fail);
      life.listen(lifeOf(own), done);
    });
    life.unref();
    await mkdir(own, { mode: 0o700 });
    return new MountFolder(deps, own, life);
  }

  /** Errors: `connector.mount-folder-taken`. `wish` is a folder that is empty, or does not exist. */
  async add(name: string, wish: string | undefined): Promise<AttachmentFolder> {
    const folder = join(this.#own, `${name.replace(/[^\w.-]/g, '_').slice(0, 60)}-${randomBytes(2).toString('hex')}`);
    await mkdir(folder, { mode: 0o700 });
    await mkdir(join(folder, stagingName), { mode: 0o700 });
    await mkdir(join(folder, 'root'), { mode: 0o700 });
    if (wish !== undefined) {
      await placeLink(resolve(wish), folder).catch(async (error: unknown) => {
        await rm(folder, { recursive: true, force: true });
        throw error;
      });
    }
    return {
      root: wish === undefined ? join(folder, 'root') : resolve(wish),
      files: join(folder, 'root'),
      staging: join(folder, stagingName),
      remove: () => removeAttachment(folder, this.#deps),
    };
  }

  async dispose(): Promise<void> {
    await removeFolder(this.#own, this.#deps);
    this.#life.close();
  }
}

/** Windows has names of pipes where other systems have files. */
const lifeOf = (folder: string): string =>
  process.platform === 'win32' ? `\\\\.\\pipe\\nearfield-${basename(folder)}` : folder + lifeSuffix;

/** Removes what connectors have left that are not there any more. Needs no memory; harmless at any time. */
export async function cleanUp(deps: FolderDeps): Promise<void> {
  const base = await realpath(deps.base).catch(() => undefined);
  for (const name of base === undefined ? [] : await readdir(base)) {
    const folder = join(base ?? '', name);
    if (name.startsWith(folderPrefix) && !name.endsWith(lifeSuffix) && !(await isAlive(folder, deps.clock))) {
      deps.log.info('volumes that a crash has left are removed', { folder });
      await removeFolder(folder, deps).catch((error: unknown) =>
        deps.log.warn('volumes that a crash has left could not be removed', { folder, error: toError(error) }),
      );
    }
  }
}

function isAlive(folder: string, clock: Clock): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(lifeOf(folder));
    const end = (alive: boolean): void => {
      void limit.dispose();
      socket.destroy();
      done(alive);
    };
    // Whoever is too busy to answer lives.
    const limit = clock.after(knockTimeoutMs, () => end(true));
    socket.once('connect', () => end(true));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => end(code !== 'ENOENT' && code !== 'ECONNREFUSED'));
  });
}

async function removeFolder(folder: string, deps: FolderDeps): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    await removeAttachment(join(folder, name), deps);
  }
  await rmdir(folder).catch(() => undefined);
  await rm(folder + lifeSuffix, { force: true });
}

async function removeAttachment(folder: string, { table }: FolderDeps): Promise<void> {
  const wish = await readlink(join(folder, wishName)).catch(() => undefined);
  if (wish !== undefined && (await readlink(wish).catch(() => '')) === join(folder, 'root')) {
    await unlink(wish);
    if (await lstat(join(folder, wasFolderName)).catch(() => undefined)) {
      await mkdir(wish);
    }
  }
  await table.unmount(folder);
  await removeTree(folder, (await lstat(folder)).dev);
}

/** Never into another file system: what is still mounted there is the pod's, and not ours to delete. */
async function removeTree(path: string, device: number): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found?.dev !== device) {
    return;
  }
  if (!found.isDirectory()) {
    await unlink(path);
    return;
  }
  for (const name of await readdir(path)) {
    await removeTree(join(path, name), device);
  }
  await rmdir(path);
}

/** A link where a person wants the files: they stay in our folder, for nobody else to read. */
async function placeLink(wish: string, folder: string): Promise<void> {
  const present = await lstat(wish).catch(() => undefined);
  if (present) {
    const isEmpty = present.isDirectory() && (await readdir(wish)).length === 0;
    const isLeft =
      present.isSymbolicLink() &&
      basename(await readlink(wish)) === 'root' &&
      !(await realpath(wish).catch(() => undefined));
    if (!isEmpty && !isLeft) {
      throw mountFolderTaken(wish);
    }
    if (isEmpty) {
      await mkdir(join(folder, wasFolderName));
      await rmdir(wish);
    } else {
      await unlink(wish);
    }
  }
  await mkdir(dirname(wish), { recursive: true });
  await symlink(wish, join(folder, wishName));
  await symlink(join(folder, 'root'), wish, 'junction');
}
