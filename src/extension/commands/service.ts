import * as vscode from 'vscode';
import type { Logger } from '../../base/index.ts';
import type { Connector } from '../../connector/index.ts';
import type { Consent } from '../daemon-launcher/elevation.ts';
import type { DaemonLauncher } from '../daemon-launcher/launcher.ts';
import { showError } from '../notify.ts';
import { consentOf, readSettings } from '../settings.ts';
import type { ConnectCommand } from './connect.ts';

export interface ServiceDeps {
  readonly connector: Connector;
  readonly connect: ConnectCommand;
  readonly launcher: DaemonLauncher;
  readonly log: Logger;
}

export function installService(deps: ServiceDeps): Promise<void> {
  return change(deps, vscode.l10n.t('Installing the daemon as a service'), async (consent, token) => {
    await deps.launcher.installService(consent, token);
    return vscode.l10n.t('Nearfield’s daemon is a service now: connecting asks for no password.');
  });
}

export function removeService(deps: ServiceDeps): Promise<void> {
  return change(deps, vscode.l10n.t('Removing the daemon service'), async (consent, token) => {
    await deps.launcher.removeService(consent, token);
    return vscode.l10n.t(
      'Nearfield’s daemon is no service any more: connecting asks for your password where it is needed.',
    );
  });
}

/** The daemon is exchanged under this window's feet: it leaves before, and comes back after an installation. */
async function change(
  { connector, connect, log }: ServiceDeps,
  title: string,
  work: (consent: Consent, token: vscode.CancellationToken) => Promise<string>,
): Promise<void> {
  try {
    const { connection, daemon } = connector.snapshot;
    const wasConnected = connection.state === 'connected' && daemon.state === 'attached';
    const done = await vscode.window.withProgress(
      { location: vscode.ProgressLocation.Notification, title, cancellable: true },
      async (_progress, token) => {
        if (wasConnected) {
          await connect.disconnect();
        }
        try {
          return await work(consentOf(readSettings().elevation), token);
        } finally {
          if (wasConnected) {
            void connect.ensureConnected();
          }
        }
      },
    );
    void vscode.window.showInformationMessage(done);
  } catch (error) {
    await showError(log, error);
  }
}
