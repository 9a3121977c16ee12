import { chmod, lstat, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { toError } from '../../base/index.ts';
import type { FileClient } from './client.ts';
import { isName, type LeftOut, type Scan, type ScannedFile } from './scan.ts';

/** Files that are read at the same time. */
const readsAtOnce = 8;

/** One volume's copy on this machine: brought to what the pod has, file by file, each in one step. */
export class VolumeCopy {
  /** Where it is; a file when the volume is one. */
  readonly #target: string;
  readonly #staging: string;
  #held: ReadonlyMap<string, ScannedFile> = new Map();
  #counter = 0;

  /** `staging` is a folder of the same file system, and nobody else's. */
  constructor(target: string, staging: string) {
    this.#target = target;
    this.#staging = staging;
  }

  /** Answers what could not be read. What was the same before is not read again. */
  async apply(client: Pick<FileClient, 'read'>, scan: Scan): Promise<readonly LeftOut[]> {
    const leftOut: LeftOut[] = [];
    const held = new Map<string, ScannedFile>();
    if (!scan.files.has('')) {
      await makeFolder(this.#target);
    }
    for (const folder of [...scan.folders].sort()) {
      await makeFolder(join(this.#target, folder));
    }
    const queue = [...scan.files];
    const work = async (): Promise<void> => {
      for (let next = queue.pop(); next; next = queue.pop()) {
        const [path, file] = next;
        if (this.#held.get(path)?.stamp === file.stamp) {
          held.set(path, file);
          continue;
        }
        try {
          await this.#write(join(this.#target, path), await client.read(file.source, file.sizeBytes), file);
          held.set(path, file);
        } catch (error) {
          if (toError(error).code !== 'permission_denied' && toError(error).code !== 'not_found') {
            throw error;
          }
          leftOut.push({ path, reason: 'unreadable' });
        }
      }
    };
    await Promise.all(Array.from({ length: readsAtOnce }, work));
    this.#held = held;
    await removeOthers(this.#target, '', scan, held);
    return leftOut;
  }

  async #write(target: string, content: Uint8Array, { isExecutable }: ScannedFile): Promise<void> {
    const temporary = join(this.#staging, String(this.#counter++));
    // For the user alone, and never to be written: it would not reach the pod.
    await writeFile(temporary, content, { mode: 0o600 });
    await chmod(temporary, isExecutable ? 0o500 : 0o400);
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    const present = await lstat(target).catch(() => undefined);
    // Windows does not replace what may not be written.
    if (present?.isDirectory() || (present && process.platform === 'win32')) {
      await rm(target, { recursive: true, force: true });
    }
    await rename(temporary, target);
  }
}

async function makeFolder(path: string): Promise<void> {
  const present = await lstat(path).catch(() => undefined);
  if (present && !present.isDirectory()) {
    await rm(path, { force: true });
  }
  await mkdir(path, { recursive: true, mode: 0o700 });
}

/** What the pod does not have any more, and what somebody has put there. */
async function removeOthers(
  folder: string,
  path: string,
  scan: Scan,
  held: ReadonlyMap<string, ScannedFile>,
): Promise<void> {
  const found = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of found) {
    const below = path === '' ? entry.name : `${path}/${entry.name}`;
    const at = join(folder, entry.name);
    if (entry.isDirectory() && scan.folders.has(below)) {
      await removeOthers(at, below, scan, held);
    } else if (isName(entry.name) && !(entry.isFile() && held.has(below))) {
      await rm(at, { recursive: true, force: true });
    }
  }
}
