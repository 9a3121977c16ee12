import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as vscode from 'vscode';
import { type Connector, createConnector } from '../connector/index.ts';
import { showActions } from './commands/actions.ts';
import { attachInMode } from './commands/attach.ts';
import { ConnectCommand } from './commands/connect.ts';
import { installManager, uninstallManager } from './commands/install.ts';
import { interceptToDebugSession, leave } from './commands/intercept.ts';
import { installService, removeService } from './commands/service.ts';
import { DaemonLauncher } from './daemon-launcher/launcher.ts';
import { DebugIntegration } from './debug/provider.ts';
import { commandId, viewId } from './ids.ts';
import { createChannelLogger, openLogChannel } from './log.ts';
import { createStatusBar } from './views/status-bar.ts';
import { ClusterTree, ConnectionTree } from './views/trees.ts';

let connector: Connector | undefined;

/** One screen, one line per feature. Nothing is read or connected before somebody asks. */
export function activate(context: vscode.ExtensionContext): void {
  const own = <T extends vscode.Disposable>(disposable: T): T => {
    context.subscriptions.push(disposable);
    return disposable;
  };
  const file = (name: string): string => vscode.Uri.joinPath(context.extensionUri, 'dist', name).fsPath;
  const channel = own(openLogChannel());
  const log = createChannelLogger(channel);
  const core = createConnector({ workerPath: file('connector.cjs'), log, volumesFolder: volumesFolder() });
  connector = core;
  const launcher = new DaemonLauncher({
    connector: core,
    log: log.child('daemon'),
    daemonPath: file(process.platform === 'win32' ? 'nearfield-daemon.exe' : 'nearfield-daemon'),
    facts: {
      platform: process.platform,
      isRoot: process.getuid?.() === 0,
      isRemote: vscode.env.remoteName !== undefined || vscode.env.uiKind === vscode.UIKind.Web,
      hasDisplay: Boolean(process.env['DISPLAY'] || process.env['WAYLAND_DISPLAY']),
      hasPkexec: existsSync('/usr/bin/pkexec'),
    },
    // What sd_booted(3) looks at; launchd is always there.
    hasServiceManager: () => process.platform === 'darwin' || existsSync('/run/systemd/system'),
  });
  const connect = new ConnectCommand({ connector: core, launcher, log });
  const deps = { connector: core, connect, launcher, log };
  const command = (id: string, run: (node?: unknown) => unknown): void =>
    void own(vscode.commands.registerCommand(id, run));

  own(vscode.window.createTreeView(viewId.connection, { treeDataProvider: new ConnectionTree(core) }));
  own(vscode.window.createTreeView(viewId.cluster, { treeDataProvider: new ClusterTree(core) }));
  own(createStatusBar(core));
  own(new DebugIntegration(deps).register());
  command(commandId.connect, () => connect.ensureConnected());
  command(commandId.disconnect, () => connect.disconnect());
  command(commandId.switchNamespace, (node) => connect.switchNamespace(node));
  command(commandId.interceptToDebugSession, (node) => interceptToDebugSession(deps, node));
  command(commandId.interceptWithFilter, (node) => attachInMode(deps, 'intercept', true, node));
  command(commandId.wiretap, (node) => attachInMode(deps, 'wiretap', false, node));
  command(commandId.replace, (node) => attachInMode(deps, 'replace', false, node));
  command(commandId.ingest, (node) => attachInMode(deps, 'ingest', false, node));
  command(commandId.leave, (node) => leave(deps, node));
  command(commandId.install, () => installManager(deps));
  command(commandId.uninstall, () => uninstallManager(deps));
  command(commandId.installService, () => installService(deps));
  command(commandId.removeService, () => removeService(deps));
  command(commandId.showLog, () => channel.show());
  command(commandId.showActions, () => showActions(core.snapshot));
}

/** Where the system has one, in memory: among the files are the cluster's secrets. Shared with `nearfield`, which cleans up too. */
function volumesFolder(): string {
  const runtime = process.env['XDG_RUNTIME_DIR'];
  return runtime ? join(runtime, 'nearfield/volumes') : join(homedir(), '.cache/nearfield/volumes');
}

/** The window waits for this: the manager forgets us at once, and the daemon takes the network down. */
export async function deactivate(): Promise<void> {
  await connector?.dispose();
}
