import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Exported } from '../../../../src/agent/files/exports.ts';
import { mountPolicies } from '../../../../src/protocol/index.ts';

export interface Tree {
  readonly exported: Exported;
  /** The folder of all containers. */
  readonly base: string;
  /** A folder that no client may see. */
  readonly outside: string;
  remove(): Promise<void>;
}

/** The volumes of a container `server`: one that the kubelet publishes, one to write to, and one file. */
export async function makeTree(): Promise<Tree> {
  const folder = await mkdtemp(join(tmpdir(), 'nearfield-files-'));
  const base = join(folder, 'mounts');
  const root = join(base, 'server');
  const outside = join(folder, 'outside');
  await mkdir(outside);
  await writeFile(join(outside, 'secret'), 'outside');
  await mkdir(join(base, 'neighbour/data'), { recursive: true });
  await writeFile(join(base, 'neighbour/data/secret'), 'of another container');
  await publish(join(root, 'etc/app'), '1', { 'app.conf': 'one', key: 'k' });
  await mkdir(join(root, 'data/deep'), { recursive: true });
  await writeFile(join(root, 'data/deep/file'), 'content');
  await writeFile(join(root, 'one.conf'), 'single');
  const mounts = {
    '/etc/app': mountPolicies.remoteReadOnly,
    '/data': mountPolicies.remote,
    '/one.conf': mountPolicies.remote,
  };
  return {
    exported: { container: 'server', root, mounts },
    base,
    outside,
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

/** As the kubelet does it: a folder of the version, a link to it that is exchanged, and a link for every name. */
export async function publish(folder: string, version: string, files: Record<string, string>): Promise<void> {
  const versioned = join(folder, `..${version}`);
  await mkdir(versioned, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(versioned, name), text);
    await rm(join(folder, name), { force: true });
    await symlink(join('..data', name), join(folder, name));
  }
  await rm(join(folder, '..data'), { force: true });
  await symlink(`..${version}`, join(folder, '..data'));
}
