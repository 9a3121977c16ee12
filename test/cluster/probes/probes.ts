import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Workstation } from '../../support/workstation.ts';
import { cached } from '../cache.ts';
import { ensureGo, ensurePrerequisites } from '../prerequisites.ts';
import { run } from '../shell.ts';

const here = (name: string): string => join(import.meta.dirname, name);

/**
 * A resolver that programs use: a command that takes questions (`host:NAME`, `ptr:ADDRESS`, `srv:NAME`) and prints
 * `question answer,answer milliseconds` a line; `-` stands for no answer, `?` for a question that it cannot ask.
 */
export interface ResolverProbe {
  readonly name: string;
  readonly command: readonly string[];
  /** It does not ask again by TCP when an answer is cut short: musl before 1.2.4, and busybox. */
  readonly isUdpOnly?: boolean;
}

/** Compiled once for each version of its source, and kept with the other things that take long to build. */
async function compiled(
  name: string,
  source: string,
  command: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<string> {
  const hash = createHash('sha256')
    .update(command.join(' '))
    .update(await readFile(here(source)));
  return cached(name, hash.digest('hex').slice(0, 16), async (target) => {
    const [program = '', ...words] = command;
    await run(program, [...words, '-o', target, here(source), ...(program === 'gcc' ? ['-lresolv'] : [])], {
      env: { ...process.env, ...env },
      timeoutMs: 300_000,
    });
  });
}

/** Compiles what has to be compiled, and gives everything to the workstation's user. */
export async function installProbes(workstation: Workstation): Promise<ResolverProbe[]> {
  await ensurePrerequisites([
    ...['/usr/bin/dig', '/usr/bin/musl-gcc', '/usr/bin/busybox', '/usr/bin/javac', '/usr/bin/python3', '/usr/bin/gcc'],
  ]);
  await ensureGo();
  const go = (name: string, isPure: boolean): Promise<string> =>
    compiled(name, 'names.go', ['go', 'build', '-tags', isPure ? 'netgo' : 'netcgo'], {
      CGO_ENABLED: isPure ? '0' : '1',
    });
  const give = async (path: string, name: string): Promise<string> => workstation.give(path, name);
  const [pure, cgo] = [await give(await go('go-pure', true), 'pure'), await give(await go('go-cgo', false), 'cgo')];
  const musl = await give(await compiled('musl', 'names.c', ['musl-gcc', '-static', '-O2']), 'musl');
  const glibc = await give(await compiled('glibc', 'names.c', ['gcc', '-O2']), 'glibc');
  const [script, shell] = [await give(here('names.mjs'), 'names.mjs'), await give(here('shell.sh'), 'shell.sh')];
  const [python, java] = [await give(here('names.py'), 'names.py'), await give(here('Names.java'), 'Names.java')];
  const node = `${workstation.home}/node`;
  return [
    { name: 'dig', command: ['sh', shell, 'dig'] },
    { name: 'dig, TCP', command: ['sh', shell, 'dig_tcp'] },
    { name: 'getent', command: ['sh', shell, 'getent'] },
    { name: 'C, glibc', command: [glibc] },
    { name: 'C, musl static', command: [musl], isUdpOnly: true },
    { name: 'Node lookup', command: [node, script, 'lookup'] },
    { name: 'Node resolve', command: [node, script, 'resolve'] },
    { name: 'Go, pure', command: [pure] },
    { name: 'Go, cgo', command: [cgo] },
    { name: 'Java', command: ['java', java] },
    { name: 'Python', command: ['/usr/bin/python3', python] },
    { name: 'busybox nslookup', command: ['sh', shell, 'busybox'], isUdpOnly: true },
  ];
}
