import * as vscode from 'vscode';
import { createLogger, type Logger, plainFields, systemClock } from '../base/index.ts';

/** A log channel with VS Code's own levels. */
export function createChannelLogger(channel: vscode.LogOutputChannel): Logger {
  return createLogger({
    wallMs: () => systemClock.wallMs(),
    level: () => 'trace',
    sink: ({ level, scope, message, fields }) => {
      const rest = Object.keys(fields).length > 0 ? ` ${JSON.stringify(plainFields(fields))}` : '';
      channel[level](`${scope ? `[${scope}] ` : ''}${message}${rest}`);
    },
  });
}

export function openLogChannel(): vscode.LogOutputChannel {
  return vscode.window.createOutputChannel('Nearfield', { log: true });
}
