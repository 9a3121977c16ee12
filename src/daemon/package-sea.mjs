// Makes the daemon one executable: Node's own binary, our bundle, and the device addon as an asset.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { include_dir as headers } from 'node-api-headers';
import { inject } from 'postject';

const run = promisify(execFile);
const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

/** Each system builds its own: the others' headers and linkers are theirs. Names as in `os/platform.ts`. */
const addons = {
  linux: {
    compiler: 'gcc',
    sources: ['linux.c', 'shortcut.c'],
    name: 'tun-linux.node',
    program: 'nearfield-daemon',
    flags: ['-fPIC', '-shared', '-s'],
    libraries: [],
  },
  darwin: {
    compiler: 'clang',
    sources: ['darwin.c'],
    name: 'tun-darwin.node',
    program: 'nearfield-daemon',
    flags: ['-fPIC', '-bundle', '-undefined', 'dynamic_lookup'],
    libraries: [],
  },
  win32: {
    compiler: 'gcc',
    sources: ['windows.c'],
    name: 'tun-windows.node',
    program: 'nearfield-daemon.exe',
    flags: ['-shared', '-s'],
    libraries: ['-lwintrust', '-ladvapi32'],
  },
};

function addonOf(platform) {
  if (!Object.hasOwn(addons, platform)) {
    throw new Error(`the daemon is not built on ${platform}`);
  }
  return addons[platform];
}

/** What Node's own program carries and ours cannot keep. */
async function prepare(target) {
  if (process.platform === 'linux') {
    // Half of Node's size is symbols that nobody reads there.
    await run('strip', [target]);
  } else if (process.platform === 'darwin') {
    await run('codesign', ['--remove-signature', target]);
  }
}

export async function buildAddon() {
  await mkdir('dist', { recursive: true });
  const { compiler, sources, name, flags, libraries } = addonOf(process.platform);
  const common = ['-O2', '-Wall', '-Wextra', `-I${headers}`];
  const files = ['-o', `dist/${name}`, ...sources.map((source) => `src/daemon/tun/addon/${source}`)];
  await run(compiler, [...common, ...flags, ...files, ...libraries]);
}

export async function packageDaemon() {
  const { name, program } = addonOf(process.platform);
  await buildAddon();
  await mkdir('dist/tmp', { recursive: true });
  const config = {
    main: 'dist/daemon.cjs',
    output: 'dist/tmp/daemon.blob',
    disableExperimentalSEAWarning: true,
    assets: { [name]: `dist/${name}` },
  };
  await writeFile('dist/tmp/sea.json', JSON.stringify(config));
  await run(process.execPath, ['--experimental-sea-config', 'dist/tmp/sea.json']);
  const target = `dist/tmp/${program}`;
  await copyFile(process.execPath, target);
  await chmod(target, 0o755);
  await prepare(target);
  const blob = await readFile(config.output);
  await inject(target, 'NODE_SEA_BLOB', blob, { sentinelFuse: fuse, machoSegmentName: 'NODE_SEA' });
  if (process.platform === 'darwin') {
    // Without any signature at all, macOS on ARM runs nothing.
    await run('codesign', ['--sign', '-', target]);
  }
  // What the extension knows its daemon by.
  const digest = createHash('sha256')
    .update(await readFile(target))
    .digest('hex');
  await writeFile('dist/nearfield-daemon.sha256', `${digest}\n`);
  // Renamed into place: the old one may be running.
  await rename(target, `dist/${program}`);

  await rm('dist/tmp', { recursive: true, force: true });
}
