import * as vscode from 'vscode';
import { type Connector, type ConnectorSnapshot, proxyLacks } from '../../connector/index.ts';
import { commandId, contextKey, statusBarId } from '../ids.ts';
import { translate } from './trees.ts';
import { attachmentState, statusText, translatedSentence } from './words.ts';

/** One item, left, and the context keys that menus and welcome views ask for. */
export function createStatusBar(connector: Connector): vscode.Disposable {
  const item = vscode.window.createStatusBarItem(statusBarId, vscode.StatusBarAlignment.Left, 50);
  item.name = 'Nearfield';
  item.command = commandId.showActions;
  const draw = (snapshot: ConnectorSnapshot): void => {
    const { text, spoken, isError } = statusText(snapshot, translate);
    item.text = text;
    item.tooltip = tooltip(snapshot);
    item.accessibilityInformation = { label: spoken, role: 'button' };
    item.backgroundColor = isError ? new vscode.ThemeColor('statusBarItem.errorBackground') : undefined;
    const { connection } = snapshot;
    void vscode.commands.executeCommand('setContext', contextKey.state, connection.state);
    void vscode.commands.executeCommand(
      'setContext',
      contextKey.reason,
      connection.state === 'failed' ? connection.error.reason : '',
    );
  };
  draw(connector.snapshot);
  item.show();
  connector.onSnapshotChanged(draw);
  return item;
}

function tooltip({ connection, target, daemon, proxy, attachments, health }: ConnectorSnapshot): string {
  const lines = ['Nearfield'];
  if (target) {
    lines.push(vscode.l10n.t('Context: {0}', target.context), vscode.l10n.t('Namespace: {0}', target.namespace));
  }
  if (daemon.state === 'attached') {
    lines.push(vscode.l10n.t('Subnets: {0}', daemon.subnets.join(', ')));
  }
  if (proxy) {
    lines.push(`${vscode.l10n.t('Without root')}: ${proxyLacks.map((each) => vscode.l10n.t(each)).join(' ')}`);
  }
  lines.push(...attachments.map((each) => `${each.workload}: ${attachmentState(each, translate)}`));
  lines.push(...(daemon.translated ?? []).map((each) => vscode.l10n.t(translatedSentence, each.subnet, each.route)));
  lines.push(...health.map((each) => vscode.l10n.t(each.sentence, ...(each.args ?? []))));
  if (connection.state === 'failed') {
    lines.push(vscode.l10n.t(connection.error.message));
  }
  return lines.join('\n');
}
