import * as vscode from 'vscode';
import { type Logger, toError } from '../base/index.ts';
import { commandId } from './ids.ts';

export interface Offer {
  readonly title: string;
  readonly run: () => unknown;
}

/** The only place that shows an error to a person. What was cancelled stays silent. */
export async function showError(log: Logger, thrown: unknown, offer?: Offer): Promise<void> {
  const error = toError(thrown);
  if (error.code === 'cancelled') {
    return;
  }
  log.info('shown to the user', { reason: error.reason, error });
  const text = error.hint
    ? `${vscode.l10n.t(error.message)}. ${vscode.l10n.t(error.hint)}`
    : vscode.l10n.t(error.message);
  const showLog = vscode.l10n.t('Show Log');
  const chosen = await vscode.window.showErrorMessage(`Nearfield: ${text}`, ...(offer ? [offer.title] : []), showLog);
  if (chosen === showLog) {
    await vscode.commands.executeCommand(commandId.showLog);
  } else if (chosen !== undefined && chosen === offer?.title) {
    await offer.run();
  }
}
