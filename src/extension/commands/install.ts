import * as vscode from 'vscode';
import type { Logger } from '../../base/index.ts';
import type { Connector } from '../../connector/index.ts';
import { showError } from '../notify.ts';
import { readSettings } from '../settings.ts';
import type { ConnectCommand } from './connect.ts';

export interface InstallDeps {
  readonly connector: Connector;
  readonly connect: ConnectCommand;
  readonly log: Logger;
}

/** Installing changes a cluster that others use: it asks, and lists what it will change. */
export async function installManager({ connector, connect, log }: InstallDeps): Promise<void> {
  const settings = readSettings();
  const namespace = settings.managerNamespace ?? 'ambassador';
  try {
    const { currentContext, server } = await connector.inspect(settings);
    const install = vscode.l10n.t('Install');
    const detail = vscode.l10n.t(
      'Cluster: {0}\nNamespace: {1}\n\nCreated: Deployment, Services traffic-manager and agent-injector, a service account with its roles, and a webhook that adds the traffic-agent to pods you intercept.',
      `${currentContext} (${server})`,
      namespace,
    );
    const chosen = await vscode.window.showWarningMessage(
      vscode.l10n.t('Install the traffic-manager?'),
      { modal: true, detail },
      install,
    );
    if (chosen !== install) {
      return;
    }
    const title = vscode.l10n.t('Installing the traffic-manager');
    await vscode.window.withProgress({ location: vscode.ProgressLocation.Notification, title }, () =>
      connector.install(settings),
    );
    await connect.ensureConnected();
  } catch (error) {
    await showError(log, error);
  }
}

export async function uninstallManager({ connector, connect, log }: InstallDeps): Promise<void> {
  const settings = readSettings();
  const uninstall = vscode.l10n.t('Uninstall');
  const detail = vscode.l10n.t('Everybody who uses it in this cluster loses the connection.');
  const chosen = await vscode.window.showWarningMessage(
    vscode.l10n.t('Uninstall the traffic-manager?'),
    { modal: true, detail },
    uninstall,
  );
  if (chosen === uninstall) {
    await connect.disconnect();
    const title = vscode.l10n.t('Uninstalling the traffic-manager');
    await vscode.window
      .withProgress({ location: vscode.ProgressLocation.Notification, title }, () => connector.uninstall(settings))
      .then(undefined, (error: unknown) => showError(log, error));
  }
}
