import { spawn } from 'node:child_process';
import { systemClock } from '../../base/index.ts';
import { commandOf, type Ending, endingOf, lastSentence, type Way } from './elevation.ts';

/** Enough for what goes wrong; a daemon that runs says more than that. */
const saidLimitChars = 8_192;
/** Its last words may come after its end; what it left running may hold the pipe for ever. */
const lastWordsMs = 200;

export interface Outcome {
  readonly ending: Ending;
  /** What the program said last; empty when that is not to be had. */
  readonly sentence: string;
}

/** A program on its way to root. */
export interface Starter {
  /** Resolves when the starter has ended; one that became a daemon does not. */
  readonly ended: Promise<Outcome>;
  /** Closes what is open for a person to answer, and stops listening. What runs by then goes on. */
  dispose(): void;
}

/** Starts a program as root without a window of ours: silently, or by a dialog of the system. */
export function startHidden(way: Way, program: readonly string[], prompt: string): Starter {
  const { file, args } = commandOf(way, program, prompt);
  const child = spawn(file, [...args], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
    windowsHide: true,
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-saidLimitChars);
  });
  child.stderr?.on('error', () => undefined);
  let isOver = false;
  const ended = new Promise<Outcome>((resolve) => {
    const end = (code: number | null): void =>
      resolve({ ending: endingOf(way, code, said), sentence: lastSentence(said) });
    child.on('error', () => end(null));
    child.on('exit', (code) => {
      isOver = true;
      systemClock.after(lastWordsMs, () => end(code));
    });
    child.on('close', end);
  });
  child.unref();
  return {
    ended,
    dispose() {
      child.stderr?.destroy();
      // A dialog ends with who opened it; sudo and pkexec have become the daemon by now, which is not ours to end.
      if (!isOver && (way === 'osascript' || way === 'run-as')) {
        child.kill();
      }
    },
  };
}
