import * as vscode from 'vscode';
import { isReason, type Logger } from '../../base/index.ts';
import type { Connector, InstallPreview, InstallRequest } from '../../connector/index.ts';
import { showError } from '../notify.ts';
import { readSettings } from '../settings.ts';
import type { ConnectCommand } from './connect.ts';

export interface InstallDeps {
  readonly connector: Connector;
  readonly connect: ConnectCommand;
  readonly log: Logger;
}

/** Changes that a question lists; the document beside it has all of them. */
const listedChanges = 12;

function toRequest(): InstallRequest {
  const { kubeconfig, context, managerNamespace, image, installOptions } = readSettings();
  return { kubeconfig, context, managerNamespace, image, options: installOptions };
}

/** Installing changes a cluster that others use: it shows what it will change, line by line, and asks. */
export async function installManager({ connector, connect, log }: InstallDeps, takeOver = false): Promise<void> {
  const request = { ...toRequest(), takeOver };
  try {
    const title = vscode.l10n.t('Comparing with the cluster');
    const preview = await vscode.window.withProgress({ location: vscode.ProgressLocation.Notification, title }, () =>
      connector.previewInstall(request),
    );
    if (preview.changes.length === 0) {
      void vscode.window.showInformationMessage(vscode.l10n.t('The traffic-manager is installed, and up to date.'));
    } else if (await agrees(connector, request, preview)) {
      await withSteps(connector, vscode.l10n.t('Installing the traffic-manager'), () => connector.install(request));
    } else {
      return;
    }
    await connect.ensureConnected();
  } catch (error) {
    const take = {
      title: vscode.l10n.t('Take Over…'),
      run: () => installManager({ connector, connect, log }, true),
    };
    await showError(log, error, isReason(error, 'connector.install-conflict') ? take : undefined);
  }
}

async function agrees(connector: Connector, request: InstallRequest, preview: InstallPreview): Promise<boolean> {
  const { currentContext, server } = await connector.inspect(request);
  const hide = await showChanges(preview.text);
  const words = {
    create: vscode.l10n.t('new'),
    change: vscode.l10n.t('changed'),
    remove: vscode.l10n.t('removed'),
  };
  const lines = preview.changes.map(({ action, what }) => `${what} (${words[action]})`);
  const left = lines.length - listedChanges;
  const detail = [
    vscode.l10n.t('Cluster: {0}', `${currentContext} (${server})`),
    '',
    ...lines.slice(0, listedChanges),
    ...(left > 0 ? [vscode.l10n.t('and {0} more: the editor beside shows all', left)] : []),
  ].join('\n');
  const install = vscode.l10n.t('Install');
  const question = vscode.l10n.t('Install the traffic-manager?');
  const answer = await vscode.window.showWarningMessage(question, { modal: true, detail }, install);
  if (answer === install) {
    await hide();
  }
  return answer === install;
}

/** A document that nobody can edit or has to save; who says no may go on reading it. */
async function showChanges(text: string): Promise<() => Promise<void>> {
  const uri = vscode.Uri.from({ scheme: 'nearfield-changes', path: '/traffic-manager.diff' });
  const provider = vscode.workspace.registerTextDocumentContentProvider(uri.scheme, {
    provideTextDocumentContent: () => text,
  });
  try {
    const document = await vscode.workspace.openTextDocument(uri);
    await vscode.languages.setTextDocumentLanguage(document, 'diff');
    await vscode.window.showTextDocument(document, { preview: true, preserveFocus: true });
  } finally {
    provider.dispose();
  }
  return async () => {
    const tabs = vscode.window.tabGroups.all.flatMap((group) => group.tabs);
    const isOurs = ({ input }: vscode.Tab): boolean =>
      input instanceof vscode.TabInputText && input.uri.toString() === uri.toString();
    await vscode.window.tabGroups.close(tabs.filter(isOurs));
  };
}

/** Runs what takes its time with its steps shown, and a way to stop it. */
async function withSteps(connector: Connector, title: string, work: () => Promise<void>): Promise<void> {
  const options = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
  await vscode.window.withProgress(options, async (progress, token) => {
    const steps = connector.onSnapshotChanged(({ installing }) => {
      if (installing) {
        const { step, detail } = installing;
        progress.report({ message: detail ? `${vscode.l10n.t(step)} (${detail})` : vscode.l10n.t(step) });
      }
    });
    token.onCancellationRequested(() => void connector.cancelInstall());
    try {
      await work();
    } finally {
      void steps.dispose();
    }
  });
}

export async function uninstallManager(
  { connector, connect, log }: InstallDeps,
  evenWithAgents = false,
): Promise<void> {
  const request = { ...toRequest(), evenWithAgents };
  const uninstall = vscode.l10n.t('Uninstall');
  const detail = vscode.l10n.t(
    'Everybody who uses it in this cluster loses the connection. Pods with a traffic-agent are re-created without it.',
  );
  const question = vscode.l10n.t('Uninstall the traffic-manager?');
  if ((await vscode.window.showWarningMessage(question, { modal: true, detail }, uninstall)) !== uninstall) {
    return;
  }
  try {
    await connect.disconnect();
    await withSteps(connector, vscode.l10n.t('Removing the traffic-manager'), () => connector.uninstall(request));
  } catch (error) {
    const rest = {
      title: vscode.l10n.t('Remove the Rest…'),
      run: () => uninstallManager({ connector, connect, log }, true),
    };
    await showError(log, error, isReason(error, 'connector.agents-remain') ? rest : undefined);
  }
}
