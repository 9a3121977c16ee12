import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  access,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { after, before, test } from 'node:test';
import { Places } from '../../src/agent/files/place.ts';
import { FileServer } from '../../src/agent/files/server.ts';
import { Scope, silentLogger, systemClock } from '../../src/base/index.ts';
import { cleanUp, MountFolder } from '../../src/connector/mounts/folder.ts';
import { createMountTable, type RunProgram } from '../../src/connector/mounts/mount-table.ts';
import { AttachmentVolumes, type VolumesDeps } from '../../src/connector/mounts/volumes.ts';
import { runProgram, startPiped } from '../../src/connector/reach/program.ts';
import { run, waitFor } from '../cluster/shell.ts';
import { unpacked } from '../support/packages.ts';
import { makeTree, publish, type Tree } from '../unit/agent/files/support.ts';
import { HandClock } from '../unit/manager/hand-clock.ts';

const limit = { timeout: 120_000 };
const clock = systemClock;
const log = silentLogger;
const top = '/tel_app_exports/server';

let tree: Tree;
let port: number;
let folder: string;
const scope = new Scope();

before(async () => {
  tree = await makeTree();
  scope.defer(() => tree.remove());
  folder = await realpath(await mkdtemp(join(tmpdir(), 'nearfield-laptop-')));
  scope.defer(() => rm(folder, { recursive: true, force: true }));
  const places = new Places([tree.exported]);
  const server = scope.own(new FileServer({ clock, log, places, podIp: '127.0.0.1', managerHost: 'localhost' }));
  port = await server.listen();
});
after(() => scope.dispose());

const connectToPod = async (): Promise<Duplex> => {
  const socket = connect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  return socket;
};
const table = createMountTable({ platform: process.platform, log, run: runProgram });
const folderDeps = (name: string, own = table) => ({ base: join(folder, name), clock, log, table: own });

async function attach(name: string, more: Partial<VolumesDeps> & { wish?: string } = {}): Promise<AttachmentVolumes> {
  const own = more.fuse?.table ?? table;
  const mounts = await MountFolder.open(folderDeps(name, own));
  const volumes = new AttachmentVolumes({
    clock,
    log,
    folder: await mounts.add('web/server', more.wish),
    source: () => ({ podIp: '127.0.0.1', port, mountPoint: top, mounts: tree.exported.mounts }),
    connect: connectToPod,
    fuse: undefined,
    isReadOnly: false,
    ...more,
  });
  await volumes.open();
  scope.defer(async () => {
    await volumes.dispose();
    await mounts.dispose();
  });
  return volumes;
}

const read = (volumes: AttachmentVolumes, path: string): Promise<string> =>
  readFile(join(volumes.view.root, path), 'utf8').catch(({ code }) => code);

test('OpenSSH’s client lists, reads, writes, renames and removes', limit, async () => {
  const bridge = join(folder, 'bridge.mjs');
  await writeFile(
    bridge,
    `import { connect } from 'node:net';
const socket = connect(Number(process.argv[2]), '127.0.0.1');
process.stdin.pipe(socket).pipe(process.stdout);
`,
  );
  const local = join(folder, 'large');
  await writeFile(local, Buffer.alloc(3_000_000, 'large '));
  const batch = join(folder, 'batch');
  await writeFile(
    batch,
    `cd ${top}/data
ls -l
put ${local} big
get big ${local}.back
chmod 600 big
rename big bigger
mkdir made
rmdir made
ln -s deep/file linked
get linked ${local}.linked
ls
rm bigger
rm linked
df
-get ../../../etc/passwd ${local}.passwd
`,
  );
  const output = await run('sftp', ['-b', batch, '-D', `${process.execPath} ${bridge} ${port}`], { timeoutMs: 60_000 });
  assert.match(output, /^drwx\S+ +\? +\d+ +\d+ +\d+ .* deep$|^drwx.* deep$/m);
  assert.match(output, /bigger +deep +linked/);
  assert.match(output, /%/);
  assert.deepEqual(await readFile(`${local}.back`), await readFile(local));
  assert.equal(await readFile(`${local}.linked`, 'utf8'), 'content');
  await assert.rejects(access(`${local}.passwd`));
  assert.deepEqual(await readdir(join(tree.exported.root, 'data')), ['deep']);
});

test('volumes are copied, follow the pod, and are gone when they are left', limit, async () => {
  const volumes = await attach('copies');
  const { root } = volumes.view;
  assert.equal(await read(volumes, 'etc/app/app.conf'), 'one');
  assert.equal(await read(volumes, 'data/deep/file'), 'content');
  assert.equal(await read(volumes, 'one.conf'), 'single');
  assert.deepEqual(await readdir(join(root, 'etc/app')), ['app.conf', 'key']);
  assert.equal((await lstat(join(root, 'etc/app/key'))).mode & 0o777, 0o400);
  assert.equal((await lstat(join(root, 'data'))).mode & 0o777, 0o700);
  await publish(join(tree.exported.root, 'etc/app'), '2', { 'app.conf': 'two', more: 'new' });
  await rm(join(tree.exported.root, 'etc/app/key'));
  await rm(join(tree.exported.root, 'data/deep/file'));
  await waitFor('the new version', 20_000, async () =>
    (await read(volumes, 'etc/app/more')) === 'new' ? true : undefined,
  );
  assert.equal(await read(volumes, 'etc/app/app.conf'), 'two');
  assert.equal(await read(volumes, 'etc/app/key'), 'ENOENT');
  await waitFor('the removal', 20_000, async () =>
    (await read(volumes, 'data/deep/file')) === 'ENOENT' ? true : undefined,
  );
  await volumes.dispose();
  await assert.rejects(access(root));
  await writeFile(join(tree.exported.root, 'data/deep/file'), 'content');
});

test('a pod that is gone without a word is noticed, and the next one is read', limit, async () => {
  const time = new HandClock();
  let isGone = false;
  const silentStream = (): Duplex => new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
  const dials: string[] = [];
  const volumes = await attach('gone', {
    clock: time,
    connect: async () => {
      dials.push('dial');
      const socket = await connectToPod();
      // A wire that swallows everything once the pod is gone, as one does whose far end was switched off.
      const wire = silentStream();
      const read = (chunk: Buffer): void => void (isGone || wire.push(chunk));
      wire._write = (chunk, _encoding, done) => (isGone ? done() : void socket.write(chunk, () => done()));
      socket.on('data', read);
      wire.once('close', () => socket.destroy());
      return wire;
    },
  });
  assert.deepEqual(dials, ['dial']);
  isGone = true;
  time.advance(2_500);
  await waitFor('the silence', 10_000, async () => {
    time.advance(16_000);
    return dials.length > 1 ? true : undefined;
  });
  isGone = false;
  await writeFile(join(tree.exported.root, 'data/deep/next'), 'of the next pod');
  await waitFor('the next pod’s file', 20_000, async () => {
    time.advance(2_100);
    return (await read(volumes, 'data/deep/next')) === 'of the next pod' ? true : undefined;
  });
  await volumes.dispose();
  await rm(join(tree.exported.root, 'data/deep/next'));
});

test('a folder of the person’s own leads to the files, and comes back empty', limit, async () => {
  const wish = join(folder, 'mine');
  await mkdir(wish);
  const volumes = await attach('wishes', { wish });
  assert.equal(volumes.view.root, wish);
  assert.equal(await readFile(join(wish, 'one.conf'), 'utf8'), 'single');
  await volumes.dispose();
  assert.deepEqual(await readdir(wish), []);
  await writeFile(join(wish, 'precious'), '');
  await assert.rejects(attach('wishes', { wish }), { reason: 'connector.mount-folder-taken' });
  assert.deepEqual(await readdir(wish), ['precious']);
});

test('what a killed connector has left is removed by the next one, and what lives stays', limit, async () => {
  const base = join(folder, 'crash');
  const wish = join(folder, 'crash-wish');
  const deps = folderDeps('crash');
  const child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { MountFolder } from ${JSON.stringify(import.meta.resolve('../../src/connector/mounts/folder.ts'))};
import { systemClock, silentLogger } from ${JSON.stringify(import.meta.resolve('../../src/base/index.ts'))};
import { writeFileSync } from 'node:fs';
const folder = await MountFolder.open({ base: ${JSON.stringify(base)}, clock: systemClock, log: silentLogger, table: { unmount: async () => {} } });
const { files } = await folder.add('web', ${JSON.stringify(wish)});
writeFileSync(files + '/secret', 'x');
console.log('ready');
setInterval(() => {}, 1000);`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  scope.defer(() => void child.kill('SIGKILL'));
  await untilSaid(child, 'ready');
  await cleanUp(deps);
  assert.equal(await readFile(join(wish, 'secret'), 'utf8'), 'x');
  child.kill('SIGKILL');
  await once(child, 'exit');
  const next = await MountFolder.open(deps);
  scope.own(next);
  await assert.rejects(lstat(wish));
  assert.equal((await readdir(base)).length, 2, 'the folder of the living, and its sign of life');
});

test('with sshfs what is written here is in the pod, and what is read-only is not written', limit, async () => {
  const tools = await fuseTools();
  const volumes = await attach('fuse', tools ? { fuse: tools } : {});
  const kindOf = (path: string) => volumes.view.volumes.find((each) => each.path === path);
  const { root } = volumes.view;
  assert.equal(kindOf('/etc/app')?.kind, 'copy');
  assert.equal(await read(volumes, 'data/deep/file'), 'content');
  if (!tools) {
    // A machine without FUSE: the copy says that nothing goes back.
    assert.deepEqual(kindOf('/data'), { path: '/data', kind: 'copy', isReadOnly: true, leftOut: [] });
    return;
  }
  assert.deepEqual(kindOf('/data'), { path: '/data', kind: 'mount', isReadOnly: false, leftOut: [] });
  await writeFile(join(root, 'data/written'), 'from the laptop');
  assert.equal(await readFile(join(tree.exported.root, 'data/written'), 'utf8'), 'from the laptop');
  await writeFile(join(tree.exported.root, 'data/of-the-pod'), 'from the pod');
  await waitFor('the pod’s file', 10_000, async () =>
    (await read(volumes, 'data/of-the-pod')) === 'from the pod' ? true : undefined,
  );
  await volumes.dispose();
  await assert.rejects(access(root));
  assert.equal(await readFile(join(tree.exported.root, 'data/written'), 'utf8'), 'from the laptop');
  // Too large for a copy: what is only read is mounted then, too.
  await truncate(join(tree.exported.root, 'data/of-the-pod'), 50_000_000);
  const reading = await attach('fuse-ro', { fuse: tools, isReadOnly: true });
  const code = await writeFile(join(reading.view.root, 'data/deep/file'), '').catch((error) => error.code);
  assert.equal(code, 'EROFS');
  assert.equal((await stat(join(reading.view.root, 'data/of-the-pod'))).size, 50_000_000);
  assert.equal(await readFile(join(tree.exported.root, 'data/deep/file'), 'utf8'), 'content');
  await reading.dispose();
});

/** Undefined where this machine cannot mount. */
async function fuseTools(): Promise<VolumesDeps['fuse']> {
  const root = process.getuid?.() === 0 ? await unpacked(['sshfs', 'libfuse3-3', 'fuse3']) : undefined;
  if (
    !root ||
    !(await access('/dev/fuse').then(
      () => true,
      () => false,
    ))
  ) {
    return undefined;
  }
  const libraries = `${root}/lib/x86_64-linux-gnu:${root}/lib/aarch64-linux-gnu`;
  const environment = [
    'env',
    `LD_LIBRARY_PATH=${libraries}`,
    `PATH=${root}/usr/bin:${root}/bin:${process.env['PATH']}`,
  ];
  const runTool: RunProgram = (command) => runProgram([...environment, ...command]);
  if ((await runTool(['sshfs', '-V'])) === undefined) {
    return undefined;
  }
  return {
    platform: process.platform,
    uid: 0,
    gid: 0,
    clock,
    log,
    table: createMountTable({ platform: process.platform, log, run: runTool }),
    start: (command) => startPiped([...environment, ...command]),
  };
}

async function untilSaid(child: ChildProcess, word: string): Promise<void> {
  let text = '';
  for await (const chunk of child.stdout ?? []) {
    text += String(chunk);
    if (text.includes(word)) {
      return;
    }
  }
}
