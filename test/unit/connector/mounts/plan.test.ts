import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDarwinMounts, parseMounts } from '../../../../src/connector/mounts/mount-table.ts';
import { planVolumes, volumesOf } from '../../../../src/connector/mounts/plan.ts';

const source = (mounts: Record<string, number>, port = 1) => ({
  podIp: '10.0.0.1',
  port,
  mountPoint: '/tel_app_exports/server',
  mounts,
});

test('policies say what becomes of a volume, and what lies in another comes with it', () => {
  const mounts = { '/data/inner': 0, '/data': 0, '/etc/app': 1, '/tmp': 2, '/hidden': 3, '/database': 0 };
  assert.deepEqual(planVolumes(source(mounts), false), [
    { path: '/tmp', source: undefined, isReadOnly: false },
    { path: '/data', source: '/tel_app_exports/server/data', isReadOnly: false },
    { path: '/etc/app', source: '/tel_app_exports/server/etc/app', isReadOnly: true },
    { path: '/database', source: '/tel_app_exports/server/database', isReadOnly: false },
  ]);
  assert.ok(planVolumes(source(mounts), true).every(({ isReadOnly, source: from }) => isReadOnly || !from));
});

test('an agent that serves nothing has nothing but what is local', () => {
  assert.deepEqual(
    planVolumes(source({ '/data': 0, '/tmp': 2 }, 0), false).map(({ path }) => path),
    ['/tmp'],
  );
});

test('paths that lead out of a root are no volumes', () => {
  const hostile = ['relative', '/', '/../etc', '/a/../../b', '/a/./b', '//x', '/a\0b', '/a\\b', `/${'a'.repeat(300)}`];
  assert.deepEqual(planVolumes(source(Object.fromEntries(hostile.map((path) => [path, 0]))), false), []);
});

test('an agent without policies names its volumes in a variable', () => {
  assert.deepEqual(volumesOf({ '/a': 1 }, { TELEPRESENCE_MOUNTS: '/b' }), { '/a': 1 });
  assert.deepEqual(volumesOf({}, { TELEPRESENCE_MOUNTS: '/b:/tmp' }), { '/b': 0, '/tmp': 2 });
  assert.deepEqual(volumesOf({}, {}), {});
});

test('mounts of ours are found by where they are', () => {
  const linux = 'pod: /home/ann/my\\040files/v-1/web/root/data fuse.sshfs rw 0 0\nproc /proc proc rw 0 0\n';
  assert.deepEqual(parseMounts(linux), ['/home/ann/my files/v-1/web/root/data', '/proc']);
  const darwin =
    'pod:/x on /Users/ann/my (old) files/root/data (macfuse, nodev, mounted by ann)\nmap auto_home on /home (autofs)';
  assert.deepEqual(parseDarwinMounts(darwin), ['/Users/ann/my (old) files/root/data', '/home']);
});
