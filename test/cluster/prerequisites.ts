import { access } from 'node:fs/promises';
import { run, step, succeeds } from './shell.ts';

/** A program that must exist, and the Debian package that brings it. */
const wanted: Record<string, string> = {
  '/usr/bin/containerd': 'containerd',
  '/usr/sbin/runc': 'runc',
  '/usr/lib/cni/bridge': 'containernetworking-plugins',
  '/usr/sbin/iptables': 'iptables',
  '/usr/sbin/nft': 'nftables',
  '/usr/sbin/conntrack': 'conntrack',
  '/usr/sbin/ip': 'iproute2',
  '/usr/bin/openssl': 'openssl',
  '/usr/bin/gcc': 'gcc libc6-dev',
  '/usr/bin/make': 'make g++ python3',
  '/usr/bin/sudo': 'sudo',
  '/usr/bin/curl': 'curl',
  '/usr/bin/dig': 'dnsutils',
  '/usr/bin/ping': 'iputils-ping',
  '/usr/bin/chromium': 'chromium',
  '/usr/include/gssapi/gssapi.h': 'libkrb5-dev',
};

/** What single tests want beside that: installed when they run. */
const wantedByTests: Record<string, string> = {
  '/usr/bin/musl-gcc': 'musl-tools',
  '/usr/bin/busybox': 'busybox',
  '/usr/bin/javac': 'default-jdk-headless',
  '/usr/bin/python3': 'python3-minimal',
  '/usr/bin/psql': 'postgresql-client',
  '/usr/lib/postgresql': 'postgresql',
  '/usr/bin/redis-cli': 'redis-tools',
  '/usr/bin/redis-server': 'redis-server',
  '/usr/bin/iperf3': 'iperf3',
  '/usr/bin/git': 'git',
};

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Installs what Debian has, as root; says the exact command otherwise. Go cannot be had from Debian 12 in time. */
export async function ensurePrerequisites(paths: readonly string[] = Object.keys(wanted)): Promise<void> {
  const missing: string[] = [];
  for (const path of paths) {
    if (!(await exists(path)) && !(await exists(path.replace('/usr/sbin/', '/usr/bin/')))) {
      missing.push(...(wanted[path] ?? wantedByTests[path] ?? '').split(' '));
    }
  }
  const command = ['install', '-y', '--no-install-recommends', ...missing];
  if (missing.length > 0) {
    if (process.getuid?.() !== 0 || !(await exists('/usr/bin/apt-get'))) {
      throw new Error(`These Debian packages are missing. Run: sudo apt-get ${command.join(' ')}`);
    }
    await step(`installing ${missing.join(' ')}`, async () => {
      const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
      await run('apt-get', ['update'], { env, timeoutMs: 300_000 });
      await run('apt-get', command, { env, timeoutMs: 900_000 });
    });
  }
}

/** The embedded cluster is compiled here, once. */
export async function ensureGo(): Promise<void> {
  const version = /go(\d+)\.(\d+)/.exec(await run('go', ['version']).catch(() => ''));
  const isNew = version && (Number(version[1]) > 1 || Number(version[2]) >= 24);
  if (!isNew) {
    throw new Error(
      'Go 1.24 or newer is needed to build the test cluster. Install it from https://go.dev/dl and put its bin folder on PATH, or set NEARFIELD_TEST_KUBECONFIG to use a cluster of your own.',
    );
  }
}

export async function ensureRoot(): Promise<void> {
  if (process.getuid?.() !== 0 || !(await succeeds('ip', ['netns', 'list']))) {
    throw new Error(
      'Booting the test cluster needs root. Run as root, or set NEARFIELD_TEST_KUBECONFIG to use a cluster of your own.',
    );
  }
}
