import * as vscode from 'vscode';
import type { ConnectorSnapshot } from '../../connector/index.ts';
import { commandId } from '../ids.ts';

/** What can be done now, from the status bar. */
export async function showActions({ connection, attachments, daemon }: ConnectorSnapshot): Promise<void> {
  const isConnected = connection.state === 'connected' || connection.state === 'reconnecting';
  const actions = [
    ...(isConnected && daemon.state !== 'gone'
      ? []
      : [{ label: vscode.l10n.t('Connect'), command: commandId.connect }]),
    ...(isConnected
      ? [
          { label: vscode.l10n.t('Intercept to This Debug Session'), command: commandId.interceptToDebugSession },
          { label: vscode.l10n.t('Intercept with Filter…'), command: commandId.interceptWithFilter },
          { label: vscode.l10n.t('Wiretap…'), command: commandId.wiretap },
          { label: vscode.l10n.t('Replace…'), command: commandId.replace },
          { label: vscode.l10n.t('Ingest (Environment Only)…'), command: commandId.ingest },
          { label: vscode.l10n.t('Switch Namespace…'), command: commandId.switchNamespace },
        ]
      : []),
    ...(attachments.length > 0 ? [{ label: vscode.l10n.t('Leave'), command: commandId.leave }] : []),
    ...(connection.state === 'disconnected'
      ? []
      : [{ label: vscode.l10n.t('Disconnect'), command: commandId.disconnect }]),
    { label: vscode.l10n.t('Show Log'), command: commandId.showLog },
  ];
  const chosen = await vscode.window.showQuickPick(actions, { placeHolder: 'Nearfield' });
  if (chosen) {
    await vscode.commands.executeCommand(chosen.command);
  }
}
