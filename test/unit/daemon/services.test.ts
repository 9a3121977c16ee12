import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason } from '../../../src/base/index.ts';
import type { FileSystem } from '../../../src/daemon/os/files.ts';
import { serviceManagerOf } from '../../../src/daemon/service/services.ts';
import { matchesGolden } from '../../support/golden.ts';
import { HandClock } from '../manager/hand-clock.ts';

const program = '/opt/nearfield/0123456789abcdef/nearfield-daemon';
const owner = { uid: 501, gid: 20 };

/** A machine that prints what was done to it. `answer`: what a command says; undefined when it fails. */
function machine(answer: (command: string) => string | undefined = () => '') {
  const lines: string[] = [];
  const files = new Map<string, string>();
  const fileSystem: FileSystem = {
    list: (folder) =>
      [...files.keys()].filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1)),
    read: (path) => files.get(path),
    write(path, text) {
      lines.push(`write ${path} (${text.length} characters)`);
      files.set(path, text);
    },
    remove(path) {
      lines.push(`remove ${path}`);
      files.delete(path);
    },
  };
  const run = async (file: string, args: readonly string[]): Promise<string> => {
    const command = [file, ...args].join(' ');
    const said = answer(command);
    lines.push(said === undefined ? `${command}  # fails` : command);
    if (said === undefined) {
      throw new TypeError(`${command} failed`);
    }
    return said;
  };
  return { run, files: fileSystem, clock: new HandClock(), lines, stored: files };
}

const systemd = (command: string): string => (command.includes('--property=Version') ? '252\n' : '');
/** Nothing is loaded: `print` of a service fails, `print system` does not. */
const launchd = (command: string): string | undefined => (command.includes('print system/') ? undefined : '');

test('the transcripts of both managers are what is checked in', async () => {
  const parts: string[] = [];
  for (const [platform, answer] of [
    ['linux', systemd],
    ['darwin', launchd],
  ] as const) {
    const deps = machine(answer);
    const service = serviceManagerOf(platform, deps);
    await service.check();
    await service.install(owner, program);
    deps.lines.push('-- remove');
    assert.equal(await service.remove(owner.uid), true);
    assert.equal(deps.stored.size, 0);
    parts.push(`== ${platform}\n${deps.lines.join('\n')}\n`);
  }
  matchesGolden('services.txt', parts.join('\n'));
});

test('the unit stays while another user has an instance', async () => {
  const deps = machine((command) =>
    command.includes('list-units')
      ? 'nearfield-daemon@501.service loaded\nnearfield-daemon@502.service loaded\n'
      : systemd(command),
  );
  const service = serviceManagerOf('linux', deps);
  await service.install(owner, program);
  assert.equal(await service.remove(501), false);
  assert.equal(deps.stored.size, 1);
});

test('a property list of another user is another service', async () => {
  const deps = machine(launchd);
  const service = serviceManagerOf('darwin', deps);
  await service.install(owner, program);
  await service.install({ uid: 502, gid: 20 }, program);
  assert.equal(await service.remove(501), false);
  assert.deepEqual([...deps.stored.keys()], ['/Library/LaunchDaemons/dev.nearfield.daemon.502.plist']);
});

test('launchd is not asked to load what it has not yet ended', async () => {
  let asked = 0;
  const deps = machine((command) => {
    if (command.includes('print system/')) {
      return asked++ < 2 ? '\tstate = running\n' : undefined;
    }
    return '';
  });
  const installing = serviceManagerOf('darwin', deps).install(owner, program);
  for (let turn = 0; turn < 20; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
    deps.clock.advance(100);
  }
  await installing;
  const ended = deps.lines.findIndex((line) => line.endsWith('# fails'));
  assert.ok(ended >= 0 && ended < deps.lines.findIndex((line) => line.includes('bootstrap')), deps.lines.join('\n'));
});

test('a machine without a manager is told so, and nothing is written', async () => {
  for (const platform of ['linux', 'darwin']) {
    const deps = machine(() => undefined);
    const service = serviceManagerOf(platform, deps);
    await assert.rejects(service.check(), (error) => isReason(error, 'daemon.no-service-manager'));
    await assert.rejects(service.install(owner, program), (error) => isReason(error, 'daemon.no-service-manager'));
    assert.equal(deps.stored.size, 0);
  }
  assert.throws(
    () => serviceManagerOf('win32', machine()),
    (error) => isReason(error, 'daemon.no-service-manager'),
  );
});
