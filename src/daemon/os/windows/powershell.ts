import type { RunCommand } from '../command.ts';

/**
 * What Windows' own tables say, as objects: the texts of `netsh` and `route` are in the user's language. The questions
 * are fixed texts of ours, without a value from anywhere else. Modules are taken from the system's folder only: the
 * search path begins with one that the user may write to.
 */
export async function ask(run: RunCommand, question: string): Promise<unknown> {
  const script = [
    "$ErrorActionPreference = 'Stop'",
    '$env:PSModulePath = "$PSHOME\\Modules"',
    `ConvertTo-Json -Compress -Depth 3 @(${question})`,
  ].join('; ');
  const text = await run('powershell', ['-NoProfile', '-NonInteractive', '-NoLogo', '-Command', script]);
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The objects of an answer. A single one may come without its list. */
export function listOf(answer: unknown): Readonly<Record<string, unknown>>[] {
  const all: readonly unknown[] = Array.isArray(answer) ? answer : [answer];
  return all.filter((each): each is Record<string, unknown> => typeof each === 'object' && each !== null);
}
