import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

/** Starts a program that outlives this one. Its output goes to a file of the user. */
export function startInBackground(command: readonly string[], logPath: string): void {
  const [file, ...args] = command;
  if (!file) {
    return;
  }
  const log = openSync(logPath, 'a', 0o600);
  const child = spawn(file, args, { detached: true, stdio: ['ignore', log, log] });
  child.on('error', () => undefined);
  child.unref();
  closeSync(log);
}
