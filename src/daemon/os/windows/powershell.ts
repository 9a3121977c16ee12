import { commandFailed } from '../../errors.ts';
import type { RunCommand } from '../command.ts';

/**
 * What Windows' own tables say, as objects: the texts of `netsh` and `route` are in the user's language.
 * Errors: `daemon.command-failed`.
 */
export async function ask(run: RunCommand, question: string): Promise<unknown> {
  const script = `$ErrorActionPreference = 'Stop'; ConvertTo-Json -Compress -Depth 3 @(${question})`;
  const text = await run('powershell', ['-NoProfile', '-NonInteractive', '-NoLogo', '-Command', script]);
  try {
    return text.trim() === '' ? [] : JSON.parse(text);
  } catch {
    throw commandFailed('powershell', text);
  }
}

/** The objects of an answer. A single one may come without its list. */
export function listOf(answer: unknown): Readonly<Record<string, unknown>>[] {
  const all: readonly unknown[] = Array.isArray(answer) ? answer : [answer];
  return all.filter((each): each is Record<string, unknown> => typeof each === 'object' && each !== null);
}

const powershell = 'WindowsPowerShell\\v1.0\\powershell.exe';
/** The search path of modules begins with a folder that the user may write to, and this process has more rights. */
const ownModulesOnly = '$env:PSModulePath = "$PSHOME\\Modules"';

/** Windows' own programs by their full path: one that is searched for is first looked for where the daemon happens to be. */
export function fromSystemFolder(run: RunCommand, folder: () => string): RunCommand {
  return (file, args) => {
    const name = file.replace(/\.exe$/, '');
    if (name !== 'powershell') {
      return run(`${folder()}\\${name}.exe`, args);
    }
    // The script is the last argument.
    const script = `${ownModulesOnly}; ${args.at(-1) ?? ''}`;
    return run(`${folder()}\\${powershell}`, [...args.slice(0, -1), script]);
  };
}
