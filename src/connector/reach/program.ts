import { spawn } from 'node:child_process';
import { Duplex } from 'node:stream';

/** More than any program says that is run here. */
const maxOutputBytes = 1024 * 1024;
const runLimitMs = 10_000;

/** Runs a program to its end and answers its output; undefined when it failed, is not there, or did not end in time. */
export function runProgram([file = '', ...args]: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: runLimitMs,
      killSignal: 'SIGKILL',
    });
    let output = '';
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (text: string) => {
      output = (output + text).slice(0, maxOutputBytes);
    });
    child.once('error', () => resolve(undefined));
    child.once('close', (code) => resolve(code === 0 ? output : undefined));
  });
}

export interface PipedProgram {
  /** Its input and output. */
  readonly stream: Duplex;
  /** Resolves with the end of what it complained about. */
  readonly ended: Promise<string>;
  kill(): void;
}

export type StartProgram = (command: readonly string[]) => PipedProgram;

const keptComplaints = 2_000;

/** Starts a program that speaks a protocol on its input and output. It ends with this process: its input does. */
export const startPiped: StartProgram = ([file = '', ...args]) => {
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8');
  child.stderr.on('data', (text: string) => {
    complaint = (complaint + text).slice(-keptComplaints);
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', () => resolve(complaint.trim()));
  });
  return {
    stream: Duplex.from({ readable: child.stdout, writable: child.stdin }),
    ended,
    kill: () => void child.kill('SIGTERM'),
  };
};
