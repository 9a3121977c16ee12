import { readFile } from 'node:fs/promises';
import { type Logger, toError } from '../../base/index.ts';

/** What is mounted below a folder of ours, and how it goes away. */
export interface MountTable {
  /** This one, and all below it. */
  unmount(path: string): Promise<void>;
}

/** Runs a program to its end and answers its output; undefined when it failed or is not there. */
export type RunProgram = (command: readonly string[]) => Promise<string | undefined>;

export interface MountTableDeps {
  readonly platform: NodeJS.Platform;
  readonly log: Logger;
  readonly run: RunProgram;
  /** The system's own table, as text. */
  readonly read?: (() => Promise<string>) | undefined;
}

/** Finds mounts again by where they are, so that those of a process that was killed are found too. */
export function createMountTable({ platform, log, run, read }: MountTableDeps): MountTable {
  const isLinux = platform === 'linux';
  const table = async (): Promise<string[]> => {
    if (isLinux) {
      return parseMounts(await (read?.() ?? readFile('/proc/self/mounts', 'utf8')));
    }
    return platform === 'darwin' ? parseDarwinMounts((await run(['/sbin/mount'])) ?? '') : [];
  };
  const ways = isLinux
    ? [
        ['fusermount3', '-u', '-z'],
        ['fusermount', '-u', '-z'],
        ['umount', '-l'],
      ]
    : [['/sbin/umount', '-f']];
  return {
    async unmount(folder) {
      const all = await table().catch((error: unknown) => {
        log.warn('the mounts of this machine cannot be read', { error: toError(error) });
        return [];
      });
      // The innermost first.
      for (const path of all
        .filter((each) => each === folder || each.startsWith(`${folder}/`))
        .sort((a, b) => b.length - a.length)) {
        let output: string | undefined;
        for (const way of ways) {
          output ??= await run([...way, path]);
        }
        if (output === undefined) {
          log.warn('a volume could not be unmounted', { path });
        }
      }
    },
  };
}

/** fstab(5): spaces and the like are written as octal numbers. */
export const parseMounts = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter(Boolean)
    .map((path) => path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))));

/** mount(8): `what on where (kind, options)`. */
export const parseDarwinMounts = (text: string): string[] =>
  [...text.matchAll(/^.*? on (.*) \([^()]*\)$/gm)].map((match) => match[1] ?? '');
