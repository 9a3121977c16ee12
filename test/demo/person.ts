import { readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { daemonInstallFolder, daemonInstallPath } from '../../src/protocol/index.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import { run, succeeds, waitFor } from '../cluster/shell.ts';
import { at, isRoot } from './paths.ts';

/** Not the account of a developer of this machine: it is made for the demo, and removed with it. */
const name = 'nearfield-demo';
const sudoersFile = `/etc/sudoers.d/${name}`;
const endLimitMs = 5_000;

/** Who sits at the editor. Never root: that the editor is a user's and the daemon is root's is part of the product. */
export interface Person {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  /** Made for the demo, and so removed after it. */
  readonly isOurs: boolean;
}

export async function ensurePerson(): Promise<Person> {
  if (!isRoot) {
    const { username, uid, gid, homedir } = userInfo();
    return { name: username, uid, gid, home: homedir, isOurs: false };
  }
  const home = at('home');
  if (!(await succeeds('id', ['-u', name]))) {
    await run('useradd', ['--create-home', '--home-dir', home, '--shell', '/bin/bash', '--user-group', name]);
  }
  const id = async (flag: string): Promise<number> => Number(await run('id', [flag, name]));
  return { name, uid: await id('-u'), gid: await id('-g'), home, isOurs: true };
}

/**
 * What this person may do as root without a password: start the installed daemon for themselves, nothing else. The
 * executable has to belong to root, or the permission would be one for everything.
 */
export async function permitDaemon(person: Person, daemon: string): Promise<void> {
  if (!person.isOurs) {
    return;
  }
  const digest = (await readFile(`${daemon}.sha256`, 'utf8')).trim();
  const draft = at('sudoers');
  await writeFile(draft, sudoersRule(person, daemon, digest), { mode: 0o440 });
  // A file with a mistake in it would take sudo away from the whole machine.
  await run('visudo', ['--check', '--file', draft]);
  await run('install', ['-m', '0440', '-o', 'root', '-g', 'root', draft, sudoersFile]);
}

/** The packaged daemon may install itself, and what is installed may be run: for this person, with these arguments. */
export function sudoersRule({ name, uid, gid }: Person, daemon: string, digest: string): string {
  const ids = `--uid ${uid} --gid ${gid}`;
  const commands = [
    `${escaped(daemon)} install --digest ${digest} --then-run ${ids}`,
    `${escaped(daemonInstallPath(digest))} run ${ids}`,
  ];
  return `${name} ALL=(root) NOPASSWD: ${commands.join(', ')}\n`;
}

const escaped = (path: string): string => path.replace(/[\\,:= ]/g, '\\$&');

/** Also after a crash: needs no memory of how far the demo had come. */
export async function removePerson(): Promise<void> {
  if (!isRoot) {
    return;
  }
  await rm(sudoersFile, { force: true });
  await removeInstalled();
  const uid = Number(await run('id', ['-u', name]).catch(() => Number.NaN));
  if (!Number.isInteger(uid)) {
    return;
  }
  await endProcessesOf(uid);
  await run('userdel', [name]);
}

/** The terminals and programs that the editor has started; the account is the demo's alone. */
async function endProcessesOf(uid: number): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const pid of await processesOf(uid)) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended by itself.
      }
    }
    const isOver = await waitFor('the end of the editor', endLimitMs, async () =>
      (await processesOf(uid)).length === 0 ? true : undefined,
    ).catch(() => false);
    if (isOver) {
      return;
    }
  }
}

async function processesOf(uid: number): Promise<number[]> {
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const isZombie = /^State:\s+Z/m.test(status);
    if (!isZombie && Number(/^Uid:\s+(\d+)/m.exec(status)?.[1]) === uid) {
      found.push(Number(pid));
    }
  }
  return found;
}

/** The copy of the daemon that this build has installed, unless somebody works with it. */
async function removeInstalled(): Promise<void> {
  const digest = await readFile(join(repositoryRoot, 'dist/nearfield-daemon.sha256'), 'utf8').catch(() => '');
  const path = daemonInstallPath(digest.trim());
  if (digest !== '' && !(await succeeds('pgrep', ['-f', `^${path} `]))) {
    await rm(dirname(path), { recursive: true, force: true });
    await rmdir(daemonInstallFolder).catch(() => undefined);
  }
}
