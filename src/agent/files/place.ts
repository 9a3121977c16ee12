import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readlink, realpath } from 'node:fs/promises';
import { basename, join, posix } from 'node:path';
import { exportsRoot, mountPolicies } from '../../protocol/index.ts';
import { notThere, readOnlyPlace } from '../errors.ts';
import type { Exported } from './exports.ts';

/** As many links as the kernel follows. */
const maxLinks = 40;
/** Longer than any path that the kernel takes. */
const maxPathLength = 4_096;

/** O_PATH of Linux, which Node does not name: a directory that may be passed need not be readable. */
const pathOnly = 0o1000_0000;

/** A file that is, or could be, below the exports; its directory is held open, so that nobody can put another in its place. */
export interface Place {
  /** Of the file, through the directory that is held. */
  readonly path: string;
  readonly isReadOnly: boolean;
  /** Lets go of the directory. */
  close(): Promise<void>;
}

/** A directory that exists in the tree that clients see alone, and what it holds. */
export interface Virtual {
  readonly names: readonly string[];
}

/**
 * Finds what clients mean by their paths, and nothing else: links are followed here, not by the kernel, as the container
 * would follow them, and never out of its own tree.
 */
export class Places {
  readonly #exports: ReadonlyMap<string, Exported>;

  constructor(exports: readonly Exported[]) {
    this.#exports = new Map(exports.map((each) => [each.container, each]));
  }

  /** The directories above the volumes' trees. */
  virtual(path: string): Virtual | undefined {
    const normal = normalize(path);
    if (normal === '/') {
      return { names: [basename(exportsRoot)] };
    }
    return normal === exportsRoot ? { names: [...this.#exports.keys()] } : undefined;
  }

  /** Rejects with an error of the system, or `agent.file-not-there`; the last link is followed or not. */
  async find(path: string, { follow }: { readonly follow: boolean }): Promise<Place> {
    const [, , container = '', ...rest] = normalize(path).split('/');
    const exported = normalize(path).startsWith(`${exportsRoot}/`) ? this.#exports.get(container) : undefined;
    if (!exported) {
      throw notThere();
    }
    const root = await realpath(exported.root);
    const parts = await walk(root, rest.filter(Boolean), follow);
    const name = parts.at(-1);
    const parent = join(root, ...parts.slice(0, -1));
    const held = await holdDirectory(parent);
    return {
      path: name === undefined ? `/proc/self/fd/${held.fd}/.` : `/proc/self/fd/${held.fd}/${name}`,
      isReadOnly: isReadOnly(exported, `/${parts.join('/')}`),
      close: () => held.close(),
    };
  }

  /** As `find`; errors: `agent.file-read-only` too. */
  async findWritable(path: string, options: { readonly follow: boolean }): Promise<Place> {
    const place = await this.find(path, options);
    if (place.isReadOnly) {
      await place.close();
      throw readOnlyPlace();
    }
    return place;
  }
}

/** Absolute and without dots, whatever a client writes. */
export const normalize = (path: string): string => {
  if (path.length > maxPathLength || path.includes('\0')) {
    throw notThere();
  }
  return posix.join('/', path).replace(/(?<=.)\/+$/, '');
};

/** The way to a file without a link in it, but for the last when that is not followed. */
async function walk(root: string, wanted: readonly string[], follow: boolean): Promise<string[]> {
  const queue = [...wanted];
  const parts: string[] = [];
  let links = 0;
  while (queue.length > 0) {
    const part = queue.shift() ?? '';
    if (part === '..') {
      parts.pop();
      continue;
    }
    const isLast = queue.length === 0;
    const path = join(root, ...parts, part);
    const target = isLast && !follow ? undefined : await targetOf(path, isLast);
    if (target === undefined) {
      parts.push(part);
    } else {
      links++;
      const next = target.split('/').filter((each) => each !== '' && each !== '.');
      if (links > maxLinks || next.length > maxPathLength) {
        throw notThere();
      }
      if (target.startsWith('/')) {
        // As the container sees it: its root is ours.
        parts.length = 0;
      }
      queue.unshift(...next);
    }
  }
  return parts;
}

/** Of a link; undefined for everything else. The last part need not be there. */
async function targetOf(path: string, isLast: boolean): Promise<string | undefined> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (isLast && error.code === 'ENOENT') {
      return undefined;
    }
    throw error;
  });
  return found?.isSymbolicLink() ? await readlink(path) : undefined;
}

/** What was a directory a moment ago may be a link by now: the kernel says what was really opened. */
async function holdDirectory(path: string): Promise<FileHandle> {
  const held = await open(path, pathOnly | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  if ((await readlink(`/proc/self/fd/${held.fd}`)) !== path) {
    await held.close();
    throw notThere();
  }
  return held;
}

/** The innermost volume decides; between volumes nothing is written. */
function isReadOnly({ mounts }: Exported, path: string): boolean {
  const mount = Object.keys(mounts)
    .filter((each) => `${path}/`.startsWith(`${each}/`))
    .sort((a, b) => b.length - a.length)[0];
  return mount === undefined || mounts[mount] !== mountPolicies.remote;
}
