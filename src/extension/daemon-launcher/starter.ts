import { spawn } from 'node:child_process';
import * as vscode from 'vscode';
import { commandOf, type Ending, endingOf, lastSentence, type Way } from './elevation.ts';

/** Enough for what goes wrong; a daemon that runs says more than that. */
const saidLimitChars = 8_192;

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

export function startElevated(way: Way, program: readonly string[], prompt: string): Starter {
  return way === 'terminal' ? askInTerminal(program, prompt) : startHidden(way, program, prompt);
}

function startHidden(way: Way, program: readonly string[], prompt: string): Starter {
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
    const end = (code: number | null): void => {
      isOver = true;
      resolve({ ending: endingOf(way, code, said), sentence: lastSentence(said) });
    };
    child.on('error', () => end(null));
    // After its last words, but not after those of what it left running.
    child.on('exit', (code) => setImmediate(() => end(code)));
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

function askInTerminal(program: readonly string[], prompt: string): Starter {
  const { file, args } = commandOf('terminal', program, prompt);
  const terminal = vscode.window.createTerminal({
    name: vscode.l10n.t('Nearfield daemon'),
    shellPath: file,
    shellArgs: [...args],
  });
  terminal.show();
  let listener: vscode.Disposable | undefined;
  const ended = new Promise<Outcome>((resolve) => {
    listener = vscode.window.onDidCloseTerminal((each) => {
      if (each === terminal) {
        resolve({ ending: 'ended', sentence: '' });
      }
    });
  });
  return {
    ended,
    dispose() {
      listener?.dispose();
      terminal.dispose();
    },
  };
}
