import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIp, isReason, silentLogger } from '../../../src/base/index.ts';
import { createDarwinPlatform } from '../../../src/daemon/os/darwin/platform.ts';
import type { FileSystem } from '../../../src/daemon/os/files.ts';
import { systemOf } from '../../../src/daemon/os/platform.ts';
import type { UtunAddon } from '../../../src/daemon/tun/darwin.ts';
import { daemonSocketPaths, runtimeDirectoryOf } from '../../../src/protocol/index.ts';
import { HandClock } from '../manager/hand-clock.ts';

test('each system has an addon of its own', () => {
  assert.deepEqual(
    ['linux', 'darwin', 'win32'].map((platform) => systemOf(platform).addonName),
    ['tun-linux.node', 'tun-darwin.node', 'tun-windows.node'],
  );
});

test('another system is refused by its name', () => {
  for (const platform of ['freebsd', 'toString']) {
    assert.throws(
      () => systemOf(platform),
      (error) => isReason(error, 'daemon.unsupported-platform') && String(error).includes(platform),
    );
  }
});

test('a platform is made without loading its addon: cleaning up needs none', () => {
  for (const platform of ['linux', 'darwin', 'win32']) {
    systemOf(platform).create({
      clock: new HandClock(),
      log: silentLogger,
      run: async () => '',
      addon: () => assert.fail('loaded'),
      programFolder: '/nowhere',
    });
  }
});

test('the sockets lie where each system keeps what is gone after a start', () => {
  assert.deepEqual(daemonSocketPaths(501, runtimeDirectoryOf('darwin')), {
    directory: '/var/run/nearfield/501',
    control: '/var/run/nearfield/501/daemon.sock',
    dial: '/var/run/nearfield/501/dial.sock',
  });
  assert.equal(daemonSocketPaths(1000, runtimeDirectoryOf('linux')).control, '/run/nearfield/1000/daemon.sock');
  const { control, dial } = daemonSocketPaths(1001, runtimeDirectoryOf('win32'));
  assert.deepEqual([control, dial], ['\\\\.\\pipe\\nearfield-1001-daemon', '\\\\.\\pipe\\nearfield-1001-dial']);
});

test('macOS takes the longest path that a socket may have', () => {
  // `sun_path` has 104 bytes there, the last of them zero.
  const { control } = daemonSocketPaths(0xfffffffe, runtimeDirectoryOf('darwin'));
  assert.ok(control.length < 104);
});

test('on macOS, the resolver files of a killed daemon are removed, and nobody else’s', async () => {
  const present = ['nearfield-501.svc', 'nearfield-502.svc', 'nearfield-501.cluster.local', 'corp.example'];
  const removed: string[] = [];
  const files: FileSystem = {
    list: () => present,
    read: () => undefined,
    write: () => assert.fail('nothing is written'),
    remove: (path) => removed.push(path),
  };
  const platform = createDarwinPlatform({
    clock: new HandClock(),
    run: async () => 'resolver #1\n  nameserver[0] : 192.168.1.1\n',
    addon: () => ({}) as UtunAddon,
    files,
  });
  await platform.cleanUp(501);
  assert.deepEqual(removed, ['/etc/resolver/nearfield-501.svc', '/etc/resolver/nearfield-501.cluster.local']);
  assert.deepEqual((await platform.resolvers()).map(formatIp), ['192.168.1.1']);
});
