import { readdir, readFile } from 'node:fs/promises';
import { appEnvironmentPrefix, type SidecarContainer } from '../protocol/index.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The environments of the processes that can be seen and read, the oldest first. Other containers' are only there where
 * the pod shares its process namespace, and readable for the same user alone.
 */
export type ListEnvironments = () => Promise<readonly Readonly<Record<string, string>>[]>;

/** More processes are not looked at: a container's first is among its oldest. */
const maxProcesses = 256;

export const listEnvironments: ListEnvironments = async () => {
  const ids = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: Readonly<Record<string, string>>[] = [];
  for (const id of ids.sort((a, b) => a - b).slice(0, maxProcesses)) {
    const text = id === process.pid ? '' : await readFile(`/proc/${id}/environ`, 'utf8').catch(() => '');
    if (text !== '') {
      found.push(parseEnviron(text));
    }
  }
  return found;
};

/** proc_pid_environ(5): entries that end in NUL. */
export function parseEnviron(text: string): Readonly<Record<string, string>> {
  const entries = text.split('\0').map((entry) => [entry, entry.indexOf('=')] as const);
  return Object.fromEntries(
    entries.filter(([, at]) => at > 0).map(([entry, at]) => [entry.slice(0, at), entry.slice(at + 1)]),
  );
}

/**
 * What a container's oldest process sees, known by the variables that the pod's specification gives this container and no
 * other: those that were copied to the agent. Undefined when none can be told with certainty; a program may have changed
 * some of what it was given, so most of them decide.
 */
export function processEnvironment(
  container: SidecarContainer,
  others: readonly SidecarContainer[],
  own: Environment,
  processes: readonly Readonly<Record<string, string>>[],
): Readonly<Record<string, string>> | undefined {
  const share = (each: SidecarContainer, process: Environment): number => {
    const copied = copiedOf(each, own);
    const equal = copied.filter(([key, value]) => process[key] === value).length;
    return copied.length === 0 ? 0 : equal / copied.length;
  };
  return processes.find((process) => {
    const mine = share(container, process);
    return mine > 0.5 && others.every((other) => other === container || share(other, process) < mine);
  });
}

function copiedOf({ envPrefix }: SidecarContainer, own: Environment): readonly (readonly [string, string])[] {
  const prefix = appEnvironmentPrefix + envPrefix;
  return Object.entries(own)
    .filter((entry): entry is [string, string] => entry[0].startsWith(prefix) && entry[1] !== undefined)
    .map(([key, value]) => [key.slice(prefix.length), value]);
}
