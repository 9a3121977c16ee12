// Makes the daemon one executable: Node's own binary, our bundle, and the device addon as an asset.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { include_dir as headers } from 'node-api-headers';
import { inject } from 'postject';

const run = promisify(execFile);
const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

export async function buildAddon() {
  await mkdir('dist', { recursive: true });
  const flags = ['-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-s', `-I${headers}`];
  await run('gcc', [...flags, '-o', 'dist/tun-linux.node', 'src/daemon/tun/addon/linux.c']);
}

export async function packageDaemon() {
  await buildAddon();
  await mkdir('dist/tmp', { recursive: true });
  const config = {
    main: 'dist/daemon.cjs',
    output: 'dist/tmp/daemon.blob',
    disableExperimentalSEAWarning: true,
    assets: { 'tun-linux.node': 'dist/tun-linux.node' },
  };
  await writeFile('dist/tmp/sea.json', JSON.stringify(config));
  await run(process.execPath, ['--experimental-sea-config', 'dist/tmp/sea.json']);
  const target = 'dist/tmp/nearfield-daemon';
  await copyFile(process.execPath, target);
  await chmod(target, 0o755);
  // Half of Node's size is symbols that nobody reads there.
  await run('strip', [target]);
  await inject(target, 'NODE_SEA_BLOB', await readFile(config.output), { sentinelFuse: fuse });
  // What the extension knows its daemon by.
  const digest = createHash('sha256')
    .update(await readFile(target))
    .digest('hex');
  await writeFile('dist/nearfield-daemon.sha256', `${digest}\n`);
  // Renamed into place: the old one may be running.
  await rename(target, 'dist/nearfield-daemon');

  await rm('dist/tmp', { recursive: true, force: true });
}
