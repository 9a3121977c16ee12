import * as vscode from 'vscode';
import { isReason, type Logger } from '../../base/index.ts';
import type { Connector } from '../../connector/index.ts';
import type { DaemonLauncher } from '../daemon-launcher/launcher.ts';
import { commandId } from '../ids.ts';
import { showError } from '../notify.ts';
import { readSettings } from '../settings.ts';

export interface ConnectDeps {
  readonly connector: Connector;
  readonly launcher: DaemonLauncher;
  readonly log: Logger;
}

/** Connect, Disconnect and Switch Namespace. */
export class ConnectCommand {
  readonly #deps: ConnectDeps;
  #namespace: string | undefined;
  #running: Promise<boolean> | undefined;

  constructor(deps: ConnectDeps) {
    this.#deps = deps;
  }

  /** True when connected at the end; what failed was shown. Two callers share one attempt. */
  ensureConnected(namespace?: string, token?: vscode.CancellationToken): Promise<boolean> {
    this.#running ??= this.#connect(namespace, token).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async disconnect(): Promise<void> {
    await this.#deps.connector.disconnect().catch((error: unknown) => showError(this.#deps.log, error));
  }

  async switchNamespace(node?: unknown): Promise<void> {
    const { snapshot } = this.#deps.connector;
    const named = (node as { name?: unknown } | undefined)?.name;
    const names = snapshot.namespaces.map(({ name }) => name);
    const chosen =
      typeof named === 'string'
        ? named
        : await vscode.window.showQuickPick(names, {
            placeHolder: vscode.l10n.t('The namespace whose short names should work here'),
          });
    if (chosen) {
      await this.disconnect();
      this.#namespace = chosen;
      await this.ensureConnected(chosen);
    }
  }

  async #connect(namespace: string | undefined, outer?: vscode.CancellationToken): Promise<boolean> {
    const { connector, launcher, log } = this.#deps;
    if (connector.snapshot.connection.state === 'connected' && connector.snapshot.daemon.state !== 'gone') {
      return true;
    }
    const settings = readSettings();
    try {
      await vscode.window.withProgress(
        { location: { viewId: 'nearfield.connection' }, title: vscode.l10n.t('Connecting') },
        async () => {
          const source = new vscode.CancellationTokenSource();
          const stop = outer?.onCancellationRequested(() => {
            source.cancel();
            void connector.disconnect();
          });
          try {
            // What is wrong with the kubeconfig is said before a password is asked for.
            await connector.inspect(settings);
            const daemon = await launcher.ensure(source.token);
            if (connector.snapshot.connection.state === 'connected') {
              await connector.attachDaemon(daemon);
            } else {
              if (connector.snapshot.connection.state !== 'disconnected') {
                await connector.disconnect();
              }
              await connector.connect({
                ...settings,
                namespace: namespace ?? this.#namespace ?? settings.namespace,
                daemon,
              });
            }
          } finally {
            stop?.dispose();
            source.dispose();
          }
        },
      );
      return true;
    } catch (error) {
      const isMissing = isReason(error, 'connector.manager-missing');
      void showError(
        log,
        error,
        isMissing
          ? { title: vscode.l10n.t('Install'), run: () => vscode.commands.executeCommand(commandId.install) }
          : undefined,
      );
      return false;
    }
  }
}
