import * as vscode from 'vscode';
import { isReason, type Logger } from '../../base/index.ts';
import type { Connector, ConnectRequest } from '../../connector/index.ts';
import { daemonSocketPaths } from '../../protocol/index.ts';
import type { DaemonLauncher } from '../daemon-launcher/launcher.ts';
import { noService } from '../errors.ts';
import { commandId } from '../ids.ts';
import { type Offer, showError } from '../notify.ts';
import { consentOf, type Elevation, readSettings } from '../settings.ts';

export interface ConnectDeps {
  readonly connector: Connector;
  readonly launcher: DaemonLauncher;
  readonly log: Logger;
}

/** Failures of the launcher that the proxies help with. */
const outOfReach = [
  'extension.daemon-missing',
  'extension.daemon-not-started',
  'extension.daemon-failed',
  'extension.elevation-refused',
];

type WayIn = Pick<ConnectRequest, 'daemon' | 'proxy'>;

/** Connect, Disconnect and Switch Namespace. */
export class ConnectCommand {
  readonly #deps: ConnectDeps;
  #namespace: string | undefined;
  /** A person chose it at a conflict: for this window, until it is closed. */
  #translatesConflicts = false;
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

  /** What the setting asks for. `auto` falls down to the proxies where the daemon cannot be had, and says so. */
  async #wayIn(elevation: Elevation, token: vscode.CancellationToken): Promise<WayIn> {
    const { connector, launcher, log } = this.#deps;
    if (elevation === 'none') {
      return { proxy: {} };
    }
    if (elevation === 'service') {
      const status = await connector.probeDaemon(daemonSocketPaths(process.getuid?.() ?? 0));
      if (!status) {
        throw noService();
      }
      // Of this version it is taken as it is; another one is installed again, by one consent.
      return { daemon: await launcher.ensure('any', token) };
    }
    try {
      return { daemon: await launcher.ensure(consentOf(elevation), token) };
    } catch (error) {
      const isOutOfReach = outOfReach.some((reason) => isReason(error, reason));
      if (elevation !== 'auto' || !isOutOfReach) {
        throw error;
      }
      log.info('without a daemon: falling down to the proxies', { error });
      void vscode.window.showWarningMessage(
        vscode.l10n.t('Nearfield works without root: only programs that you debug from here reach the cluster.'),
      );
      return { proxy: {} };
    }
  }

  async #connect(namespace: string | undefined, outer?: vscode.CancellationToken): Promise<boolean> {
    const { connector, log } = this.#deps;
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
            const way = await this.#wayIn(settings.elevation, source.token);
            if (connector.snapshot.connection.state === 'connected' && way.daemon) {
              await connector.attachDaemon(way.daemon);
            } else {
              if (connector.snapshot.connection.state !== 'disconnected') {
                await connector.disconnect();
              }
              await connector.connect({
                ...settings,
                namespace: namespace ?? this.#namespace ?? settings.namespace,
                network: this.#translatesConflicts
                  ? { ...settings.network, translateConflicts: true }
                  : settings.network,
                ...way,
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
      void showError(log, error, this.#offerFor(error));
      return false;
    }
  }

  /** What helps at once, where something does. */
  #offerFor(error: unknown): Offer | undefined {
    if (isReason(error, 'connector.manager-missing')) {
      return { title: vscode.l10n.t('Install'), run: () => vscode.commands.executeCommand(commandId.install) };
    }
    if (isReason(error, 'daemon.subnet-conflict')) {
      return {
        title: vscode.l10n.t('Connect under Other Addresses'),
        run: () => {
          this.#translatesConflicts = true;
          return this.ensureConnected();
        },
      };
    }
    if (isReason(error, 'extension.no-service')) {
      return {
        title: vscode.l10n.t('Install as a Service'),
        run: () => vscode.commands.executeCommand(commandId.installService),
      };
    }
    return undefined;
  }
}
