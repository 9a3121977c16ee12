import { execFile } from 'node:child_process';
import { commandFailed } from '../errors.ts';

/** Runs a system program by an argument array, never through a shell. Answers its output; rejects with what it said. */
export type RunCommand = (file: string, args: readonly string[]) => Promise<string>;

/** On Windows, the first PowerShell after a start takes seconds by itself. */
const limitMs = process.platform === 'win32' ? 20_000 : 5_000;
const outputLimitBytes = 16 * 1024 * 1024;

/** A fixed search path: root must not run a program that the user's environment chose. */
const environment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

export const runCommand: RunCommand = (file, args) =>
  new Promise((resolve, reject) => {
    execFile(
      file,
      [...args],
      { timeout: limitMs, maxBuffer: outputLimitBytes, env: environment, windowsHide: true },
      (error, stdout, stderr) => {
        if (error) {
          reject(commandFailed([file, ...args].join(' '), stderr || error.message));
        } else {
          resolve(stdout);
        }
      },
    );
  });
