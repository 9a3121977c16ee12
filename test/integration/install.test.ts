import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isReason } from '../../src/base/index.ts';
import { installSelf } from '../../src/daemon/service/install.ts';
import { daemonInstallPath } from '../../src/protocol/index.ts';

const bytes = Buffer.from('#!/bin/true\n'.repeat(1_000));
const digest = createHash('sha256').update(bytes).digest('hex');

/** A folder below which everything is root's, and a file that plays the packaged daemon. */
async function setup(t: TestContext) {
  const root = await mkdtemp('/var/lib/nearfield-install-');
  await chmod(root, 0o755);
  t.after(() => rm(root, { recursive: true, force: true }));
  const executable = join(root, 'packaged');
  await writeFile(executable, bytes);
  return { root, executable, folder: join(root, 'installed') };
}

test('the daemon is copied to a folder that only root can change', async (t) => {
  const { executable, folder } = await setup(t);
  const path = await installSelf(digest, { executable, folder });
  assert.equal(path, daemonInstallPath(digest, folder));
  assert.deepEqual(await readFile(path), bytes);
  const { uid, mode } = await lstat(path);
  assert.deepEqual([uid, mode & 0o777], [0, 0o755]);
  assert.deepEqual(await readdir(dirname(path)), ['nearfield-daemon']);
});

test('a daemon whose bytes are not those of the digest is not installed', async (t) => {
  const { executable, folder } = await setup(t);
  await writeFile(executable, 'something else');
  await assert.rejects(installSelf(digest, { executable, folder }), (error) =>
    isReason(error, 'daemon.digest-mismatch'),
  );
  await assert.rejects(installSelf('', { executable, folder }), (error) => isReason(error, 'daemon.digest-mismatch'));
  await assert.rejects(readdir(folder));
});

test('a folder that others can change is refused, also behind a link', async (t) => {
  const { root, executable } = await setup(t);
  const open = await mkdtemp(join(tmpdir(), 'nearfield-open-'));
  t.after(() => rm(open, { recursive: true, force: true }));
  const link = join(root, 'link');
  await symlink(open, link);
  for (const folder of [join(open, 'installed'), join(link, 'installed')]) {
    await assert.rejects(installSelf(digest, { executable, folder }), (error) =>
      isReason(error, 'daemon.unsafe-folder'),
    );
  }
});

test('an earlier version goes when the next one is installed', async (t) => {
  const { executable, folder } = await setup(t);
  const before = join(folder, '0123456789abcdef');
  await mkdir(before, { recursive: true });
  await writeFile(join(before, 'nearfield-daemon'), 'old');
  await installSelf(digest, { executable, folder });
  assert.deepEqual(await readdir(folder), [digest.slice(0, 16)]);
});
