import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { daemonInstallPath } from '../../protocol/index.ts';

const groupOrOtherWrite = 0o022;

/** The digest that the packaged daemon was built with; undefined in a development tree without a package. */
export async function readDigest(daemonPath: string): Promise<string | undefined> {
  const text = await readFile(`${daemonPath}.sha256`, 'utf8').catch(() => '');
  return /^[0-9a-f]{64}$/.test(text.trim()) ? text.trim() : undefined;
}

/** The copy in root's folder, when it is there, is root's alone, and has the digest. */
export async function findInstalled(digest: string): Promise<string | undefined> {
  const path = daemonInstallPath(digest);
  try {
    for (const each of [path, dirname(path), dirname(dirname(path))]) {
      const { uid, mode } = await lstat(each);
      if (uid !== 0 || (mode & groupOrOtherWrite) !== 0) {
        return undefined;
      }
    }
    return (await digestOf(path)) === digest ? path : undefined;
  } catch {
    return undefined;
  }
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
