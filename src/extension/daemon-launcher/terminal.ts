import * as vscode from 'vscode';
import { commandOf } from './elevation.ts';
import type { Outcome, Starter } from './hidden.ts';

/** Starts a program as root in a terminal, where a person sees what asks. */
export function startInTerminal(program: readonly string[], prompt: string): Starter {
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
