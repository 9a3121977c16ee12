import { access, cp, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from '../cluster/paths.ts';
import { run } from '../cluster/shell.ts';

const downloadLimitMs = 300_000;

/**
 * The files of Debian packages, unpacked to a folder and kept: firewalls and resolvers that are tested must not be
 * installed on the machine that tests, where their scripts would start them. Undefined where there is no apt.
 */
export async function unpacked(packages: readonly string[]): Promise<string | undefined> {
  const target = join(cacheFolder, `packages-${[...packages].sort().join('-')}`);
  if (await exists(target)) {
    return target;
  }
  if (!(await exists('/usr/bin/apt-get'))) {
    return undefined;
  }
  await mkdir(cacheFolder, { recursive: true });
  const temporary = await mkdtemp(`${target}.`);
  try {
    const download = (): Promise<string> =>
      run('apt-get', ['download', '-qq', ...packages], { cwd: temporary, timeoutMs: downloadLimitMs });
    await download().catch(async () => {
      await run('apt-get', ['update', '-qq'], { timeoutMs: downloadLimitMs });
      await download();
    });
    const root = join(temporary, 'root');
    for (const file of (await readdir(temporary)).filter((name) => name.endsWith('.deb'))) {
      await run('dpkg-deb', ['--extract', join(temporary, file), root]);
    }
    // Debian 12 packages still name folders that are links to those below /usr.
    for (const name of ['bin', 'lib', 'sbin']) {
      if (await exists(join(root, name))) {
        await cp(join(root, name), join(root, 'usr', name), { recursive: true, verbatimSymlinks: true });
      }
    }
    await mkdir(join(root, 'etc'), { recursive: true });
    await rename(root, target);
    return target;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
