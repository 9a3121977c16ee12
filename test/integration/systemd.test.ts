import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFile, chmod, copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { daemonInstallPath, daemonServiceFile } from '../../src/protocol/index.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { run, waitFor } from '../cluster/shell.ts';
import { type Machine, startConnector } from '../support/machine.ts';
import { stateOf } from '../support/machine-state.ts';
import { openSystemdMachine } from '../support/systemd-machine.ts';

const uid = 1000;
const unit = `nearfield-daemon@${uid}.service`;
const runtime = '/run/nearfield';
const serviceFile = daemonServiceFile(uid, 'linux') ?? '';
const limitMs = 15_000;

const build = `
import { copyFile } from 'node:fs/promises';
import { packageDaemon } from './src/daemon/package-sea.mjs';
await import('./esbuild.mjs');
await packageDaemon();
await copyFile('dist/nearfield-daemon', process.env.TARGET);
`;

/** The daemon's one executable, of the tree as it is. */
async function packaged(machine: Machine): Promise<string> {
  const target = join(machine.folder, 'nearfield-daemon');
  const evaluate = ['--input-type=module', '--eval', build, '--', '--only=daemon'];
  await run('flock', [join(repositoryRoot, 'dist/.lock'), process.execPath, ...evaluate], {
    cwd: repositoryRoot,
    env: { ...process.env, TARGET: target },
  });
  return target;
}

const digestOf = async (path: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex');

interface Status {
  readonly pid: number;
  readonly service?: boolean;
  readonly device?: string;
}

/** What is asked of the service, in the machine. */
function service(machine: Machine, daemon: string) {
  const property = async (name: string): Promise<string> =>
    (await machine.run(['systemctl', 'show', `--property=${name}`, '--value', unit])).trim();
  return {
    property,
    install: async (program = daemon) =>
      machine.run([program, 'service', 'install', '--uid', String(uid), '--digest', await digestOf(program)]),
    remove: () => machine.run([daemon, 'service', 'remove', '--uid', String(uid)]),
    status: async (): Promise<Status | undefined> => {
      const text = await machine.run([daemon, 'status', '--uid', String(uid), '--json']).catch(() => undefined);
      return text === undefined ? undefined : (JSON.parse(text) as Status);
    },
    /** Resolves when another process than this one serves. */
    after: (pid: number) =>
      waitFor('the service to come back', limitMs, async () => {
        const now = Number(await property('MainPID'));
        return now > 0 && now !== pid && (await property('ActiveState')) === 'active' ? now : undefined;
      }),
  };
}

async function becomes(machine: Machine, wanted: string): Promise<void> {
  let state = '';
  await waitFor('the machine to be as before', limitMs, async () => {
    state = await stateOf(machine, runtime);
    return state === wanted ? true : undefined;
  }).catch(() => undefined);
  assert.equal(state, wanted);
}

async function open(t: TestContext): Promise<Machine | undefined> {
  const machine = await openSystemdMachine();
  if (!machine) {
    t.skip('no systemd here, or no cgroups for it');
    return undefined;
  }
  t.after(() => machine.close());
  await machine.run(['mkdir', '-p', runtime]);
  // A firewall that needs a rule of ours: the sandbox has to allow it, and the clean-up after a kill to find it.
  await machine.run(['nft', 'add table inet filter']);
  await machine.run(['nft', 'add chain inet filter input { type filter hook input priority 0; policy drop; }']);
  await machine.run(['nft', 'add rule inet filter input iif lo accept']);
  return machine;
}

test('under a real systemd the service is installed, comes back after deaths, is upgraded and goes without a trace', async (t) => {
  const machine = await open(t);
  if (!machine) {
    return;
  }
  const daemon = await packaged(machine);
  const nearfield = service(machine, daemon);
  // As short as its beats allow.
  const dropIn = `/etc/systemd/system/${unit.replace(String(uid), '')}.d`;
  await machine.run(['sh', '-c', `mkdir -p ${dropIn} && printf '[Service]\\nWatchdogSec=7\\n' >${dropIn}/test.conf`]);
  const before = await stateOf(machine, runtime);

  await t.test('it is installed and serves', async () => {
    await nearfield.install();
    assert.equal(await nearfield.property('ActiveState'), 'active');
    assert.equal(await nearfield.property('UnitFileState'), 'enabled');
    assert.equal((await nearfield.status())?.service, true);
    // What the extension knows it by.
    await machine.run(['test', '-L', serviceFile]);
  });
  const idle = await stateOf(machine, runtime);

  await t.test('a window gets its network from within the sandbox', async () => {
    await startConnector(machine, { uid, runtimeDirectory: runtime });
    assert.equal((await nearfield.status())?.device, `nf${uid}`);
    assert.match(await machine.run(['ip', 'route']), /10\.201\.0\.0\/16 dev nf1000/);
    assert.match(await machine.run(['nft', 'list', 'ruleset']), /nf1000/);
  });

  await t.test('after a kill it serves again, and what it had made is gone', async () => {
    const pid = Number(await nearfield.property('MainPID'));
    await machine.run(['kill', '-KILL', String(pid)]);
    await nearfield.after(pid);
    await becomes(machine, idle);
  });

  await t.test('when it is stopped, the watchdog ends it and it serves again', async () => {
    await startConnector(machine, { uid, runtimeDirectory: runtime });
    const pid = Number(await nearfield.property('MainPID'));
    await machine.run(['kill', '-STOP', String(pid)]);
    await waitFor('the watchdog', limitMs, async () =>
      (await nearfield.property('Result')) === 'watchdog' ? true : undefined,
    );
    await nearfield.after(pid);
    await becomes(machine, idle);
  });

  const next = join(machine.folder, 'nearfield-daemon-next');
  await t.test('another version takes its place, and the earlier copy goes', async () => {
    await copyFile(daemon, next);
    // What lies behind the end of a program does not change it, but its digest.
    await appendFile(next, '\n');
    await chmod(next, 0o755);
    await nearfield.install(next);
    const program = daemonInstallPath(await digestOf(next));
    assert.equal((await machine.run(['readlink', `/proc/${await nearfield.property('MainPID')}/exe`])).trim(), program);
    assert.deepEqual((await machine.run(['ls', '/opt/nearfield'])).trim().split('\n'), [program.split('/')[3]]);
  });

  await t.test('ended by its manager, it leaves nothing', async () => {
    await startConnector(machine, { uid, runtimeDirectory: runtime });
    await machine.run(['systemctl', 'stop', unit]);
    await becomes(machine, before);
    await machine.run(['systemctl', 'start', unit]);
    assert.equal((await nearfield.status())?.service, true);
  });

  await t.test('removed, it leaves no file', async () => {
    await nearfield.remove();
    await assert.rejects(machine.run(['test', '-L', serviceFile]));
    await becomes(machine, before);
    const left = await machine.run([
      'find',
      '/etc/systemd/system',
      '/opt',
      '-path',
      '*nearfield*',
      '-not',
      '-path',
      '*.d*',
    ]);
    assert.equal(left, '');
    assert.equal(await nearfield.property('LoadState'), 'not-found');
  });
});

test('a daemon of the session gives way to the service, unless windows use it', async (t) => {
  const machine = await open(t);
  if (!machine) {
    return;
  }
  const daemon = await packaged(machine);
  const nearfield = service(machine, daemon);
  const ids = ['--uid', String(uid), '--gid', String(uid)];
  await machine.run([daemon, 'run', ...ids, '--background']);
  assert.equal((await nearfield.status())?.service, false);
  const windows = [
    await startConnector(machine, { uid, runtimeDirectory: runtime }),
    await startConnector(machine, { uid, runtimeDirectory: runtime }),
  ];
  await assert.rejects(nearfield.install(), /another window of yours is connected/);
  for (const { process } of windows) {
    await process.kill('SIGKILL');
  }
  await waitFor('the windows to be gone', limitMs, async () =>
    ((await nearfield.status()) as { clients?: number } | undefined)?.clients === 0 ? true : undefined,
  );
  await nearfield.install();
  assert.equal((await nearfield.status())?.service, true);
});
