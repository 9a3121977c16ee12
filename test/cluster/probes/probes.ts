import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Workstation } from '../../support/workstation.ts';
import { cacheFolder } from '../paths.ts';
import { ensurePrerequisites } from '../prerequisites.ts';
import { run } from '../shell.ts';

const here = import.meta.dirname;

/** A resolver that programs use: its name, and a command that takes names and prints `name addresses` a line. */
export interface ResolverProbe {
  readonly name: string;
  readonly command: readonly string[];
}

/** Compiles what has to be compiled, and gives everything to the workstation's user. */
export async function installProbes(workstation: Workstation): Promise<ResolverProbe[]> {
  await ensurePrerequisites([
    ...['/usr/bin/dig', '/usr/bin/musl-gcc', '/usr/bin/busybox', '/usr/bin/javac', '/usr/bin/python3', '/usr/bin/gcc'],
  ]);
  const folder = join(cacheFolder, 'probes');
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o755);
  const go = (out: string, enabled: string, tag: string): Promise<string> =>
    run('go', ['build', '-tags', tag, '-o', join(folder, out), join(here, 'names.go')], {
      env: { ...process.env, CGO_ENABLED: enabled, GOFLAGS: '-mod=mod' },
      timeoutMs: 300_000,
    });
  await go('go-pure', '0', 'netgo');
  await go('go-cgo', '1', 'netcgo');
  await run('musl-gcc', ['-static', '-O2', '-o', join(folder, 'musl'), join(here, 'names.c')]);
  await run('gcc', ['-O2', '-o', join(folder, 'glibc'), join(here, 'names.c')]);
  await run('javac', ['-d', folder, join(here, 'Names.java')], { timeoutMs: 120_000 });
  const given = await workstation.give(folder, 'probes');
  const script = await workstation.give(join(here, 'names.mjs'), 'names.mjs');
  const shell = await workstation.give(join(here, 'shell.sh'), 'shell.sh');
  const python = await workstation.give(join(here, 'names.py'), 'names.py');
  const node = `${workstation.home}/node`;
  return [
    { name: 'dig', command: ['sh', shell, 'dig'] },
    { name: 'dig, TCP', command: ['sh', shell, 'dig-tcp'] },
    { name: 'getent', command: ['sh', shell, 'getent'] },
    { name: 'C, glibc', command: [`${given}/glibc`] },
    { name: 'C, musl static', command: [`${given}/musl`] },
    { name: 'Node lookup', command: [node, script, 'lookup'] },
    { name: 'Node resolve', command: [node, script, 'resolve'] },
    { name: 'Go, pure', command: [`${given}/go-pure`] },
    { name: 'Go, cgo', command: [`${given}/go-cgo`] },
    { name: 'Java', command: ['java', '-cp', given, 'Names'] },
    { name: 'Python', command: ['/usr/bin/python3', python] },
    { name: 'busybox nslookup', command: ['sh', shell, 'busybox'] },
  ];
}
