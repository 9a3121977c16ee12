import { type ChildProcess, spawn } from 'node:child_process';
import { access, chown, copyFile, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { daemonInstallFolder } from '../../src/protocol/index.ts';
import { coreDnsBinary } from '../cluster/cache.ts';
import { run, succeeds, waitFor } from '../cluster/shell.ts';

const userName = 'nearfield';

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

export interface Workstation {
  readonly namespace: string;
  readonly uid: number;
  readonly gid: number;
  /** A folder of the user's, gone with the workstation. */
  readonly home: string;
  /** Runs a program as the user (or root) inside; answers its output. */
  run(
    command: readonly string[],
    options?: { readonly asRoot?: boolean; readonly timeoutMs?: number },
  ): Promise<string>;
  /** Starts one that goes on; ended with the workstation. */
  start(command: readonly string[], logPath: string): ChildProcess;
  /** Lets the user start this program as root without a password. */
  allowSudo(program: string): Promise<void>;
  /** Copies a file or folder to the user's home; answers its path there. */
  give(path: string, name: string): Promise<string>;
  /** Makes what is below the home the user's. */
  own(name: string): Promise<void>;
  /** What a daemon may have changed, as text: addresses, routes, tables, resolver, sockets. */
  state(): Promise<string>;
  down(): Promise<void>;
}

/**
 * A developer's machine for tests: a network namespace of its own with a link to the cluster's API server, an office
 * DNS server, and an ordinary user. Nothing that a test does reaches the machine it runs on.
 */
export async function openWorkstation(index = 1): Promise<Workstation> {
  const namespace = `nfws${index}`;
  const link = { outside: `nfws${index}a`, inside: `nfws${index}b` };
  const subnet = `172.31.${80 + index}`;
  const home = `/var/lib/nearfield-ws${index}`;
  const sudoers = `/etc/sudoers.d/nearfield-ws${index}`;
  const children: ChildProcess[] = [];
  const wasInstalled = await isThere(daemonInstallFolder);

  const down = async (): Promise<void> => {
    for (const child of children) {
      if (child.pid && child.exitCode === null) {
        try {
          process.kill(-child.pid, 'SIGKILL');
        } catch {
          // It ended between the look and the kill.
        }
      }
    }
    const left = (await run('ip', ['netns', 'pids', namespace]).catch(() => '')).split('\n').filter(Boolean);
    for (const pid of left) {
      await run('kill', ['-9', pid]).catch(() => undefined);
    }
    // A killed test leaves its name server, which would keep the address from the next one.
    await run('pkill', ['-9', '-f', `coredns -conf ${home}/Corefile`]).catch(() => undefined);
    await run('ip', ['link', 'delete', link.outside]).catch(() => undefined);
    await run('ip', ['netns', 'delete', namespace]).catch(() => undefined);
    await rm(`/etc/netns/${namespace}`, { recursive: true, force: true });
    await rm(home, { recursive: true, force: true });
    await rm(sudoers, { force: true });
    if (!wasInstalled) {
      await rm(daemonInstallFolder, { recursive: true, force: true });
    }
  };
  await down();

  if (!(await succeeds('id', [userName]))) {
    await run('useradd', ['--create-home', '--shell', '/bin/bash', userName]);
  }
  const uid = Number(await run('id', ['-u', userName]));
  const gid = Number(await run('id', ['-g', userName]));
  await mkdir(home, { recursive: true });
  await chown(home, uid, gid);
  await run('ip', ['netns', 'add', namespace]);
  await run('ip', ['link', 'add', link.outside, 'type', 'veth', 'peer', 'name', link.inside, 'netns', namespace]);
  await run('ip', ['address', 'add', `${subnet}.1/30`, 'dev', link.outside]);
  await run('ip', ['link', 'set', link.outside, 'up']);
  const inside = (...command: string[]): Promise<string> => run('ip', ['netns', 'exec', namespace, ...command]);
  await inside('ip', 'address', 'add', `${subnet}.2/30`, 'dev', link.inside);
  await inside('ip', 'link', 'set', link.inside, 'up');
  await inside('ip', 'link', 'set', 'lo', 'up');
  await inside('ip', 'route', 'add', 'default', 'via', `${subnet}.1`);
  await run('sysctl', ['-qw', 'net.ipv4.ip_forward=1']);
  await mkdir(`/etc/netns/${namespace}`, { recursive: true });
  await writeFile(`/etc/netns/${namespace}/resolv.conf`, `nameserver ${subnet}.1\n`);
  const corefile = join(home, 'Corefile');
  await writeFile(corefile, `.:53 {\n  bind ${subnet}.1\n  hosts {\n    ${subnet}.1 intranet.office.example\n  }\n}\n`);
  children.push(spawn(await coreDnsBinary(), ['-conf', corefile], { detached: true, stdio: 'ignore' }));

  const asUser = (command: readonly string[]): string[] => [
    ...['netns', 'exec', namespace, 'setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'],
    ...['env', `HOME=${home}`, `USER=${userName}`, `XDG_RUNTIME_DIR=${home}`, `KUBECONFIG=${home}/kubeconfig`],
    ...['PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin', ...command],
  ];
  const workstation: Workstation = {
    namespace,
    uid,
    gid,
    home,
    run: (command, { asRoot = false, timeoutMs = 30_000 } = {}) =>
      run('ip', asRoot ? ['netns', 'exec', namespace, ...command] : asUser(command), { timeoutMs, cwd: '/' }),
    start(command, logPath) {
      const child = spawn('sh', ['-c', 'exec "$0" "$@" >>"$NEARFIELD_LOG" 2>&1', 'ip', ...asUser(command)], {
        detached: true,
        stdio: 'ignore',
        cwd: '/',
        env: { ...process.env, NEARFIELD_LOG: logPath },
      });
      children.push(child);
      return child;
    },
    async allowSudo(program) {
      // The packaged program installs itself, and what is installed is run from then on.
      const installed = `${daemonInstallFolder}/*/nearfield-daemon`;
      await writeFile(sudoers, `${userName} ALL=(root) NOPASSWD: ${program}, ${installed}\n`, { mode: 0o440 });
    },
    async give(path, name) {
      const target = join(home, name);
      await cp(path, target, { recursive: true }).catch(() => copyFile(path, target));
      await run('chown', ['-R', `${uid}:${gid}`, target]);
      return target;
    },
    async own(name) {
      await run('chown', ['-R', `${uid}:${gid}`, join(home, name)]);
    },
    async state() {
      const parts = await Promise.all([
        inside('ip', '-br', 'address'),
        inside('ip', 'route'),
        inside('nft', 'list', 'ruleset'),
        readFile(`/etc/netns/${namespace}/resolv.conf`, 'utf8'),
        run('find', ['/run/nearfield', '-type', 's']).catch(() => ''),
      ]);
      return parts.join('\n--\n');
    },
    down,
  };
  await waitFor('the office DNS server', 10_000, async () =>
    (await workstation.run(['getent', 'hosts', 'intranet.office.example']).catch(() => '')).includes(subnet)
      ? true
      : undefined,
  );
  return workstation;
}
