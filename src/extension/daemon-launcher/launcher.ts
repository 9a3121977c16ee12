import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import * as vscode from 'vscode';
import { type Logger, NearfieldError, sleep, systemClock } from '../../base/index.ts';
import type { Connector, DaemonSockets } from '../../connector/index.ts';
import { clientVersion, daemonSocketPaths } from '../../protocol/index.ts';
import { daemonMissing, daemonNotStarted, daemonOfOtherVersion } from '../errors.ts';
import { findInstalled, readDigest } from './installed.ts';

const pollMs = 100;
/** Without a password the daemon is there within a moment. */
const quickWaitMs = 5_000;
/** With one, a person types. */
const passwordWaitMs = 120_000;

export interface LauncherDeps {
  readonly connector: Connector;
  readonly log: Logger;
  readonly daemonPath: string;
}

/**
 * Makes sure that a daemon of this user runs. Elevation is `sudo`: silently where a password is not needed, otherwise
 * in a terminal, where the person sees what asks. It never trusts an exit code: the daemon answers, or it is not there.
 */
export class DaemonLauncher {
  readonly #deps: LauncherDeps;

  constructor(deps: LauncherDeps) {
    this.#deps = deps;
  }

  async ensure(token: vscode.CancellationToken): Promise<DaemonSockets> {
    const uid = process.getuid?.() ?? 0;
    const gid = process.getgid?.() ?? uid;
    const sockets = daemonSocketPaths(uid);
    if (await this.#isCurrent(sockets)) {
      return sockets;
    }
    const { daemonPath, log } = this.#deps;
    try {
      accessSync(daemonPath, constants.X_OK);
    } catch (error) {
      throw daemonMissing(error);
    }
    const command = await commandFor(daemonPath, ['--uid', String(uid), '--gid', String(gid)]);
    log.info('starting the daemon', { uid });
    const failed = startSilently(uid === 0 ? command : ['sudo', '-n', ...command]);
    if (await this.#appears(sockets, quickWaitMs, token, failed)) {
      return sockets;
    }
    if (uid !== 0 && !token.isCancellationRequested) {
      const terminal = askInTerminal(command);
      const closed = new Promise<void>((resolve) => {
        const listener = vscode.window.onDidCloseTerminal((each) => {
          if (each === terminal) {
            listener.dispose();
            resolve();
          }
        });
      });
      if (await this.#appears(sockets, passwordWaitMs, token, closed)) {
        return sockets;
      }
    }
    if (token.isCancellationRequested) {
      throw new NearfieldError('cancelled', { code: 'cancelled', reason: 'base.cancelled' });
    }
    throw daemonNotStarted();
  }

  /** True when a daemon of this version runs. Another version that nobody uses any more is asked to end. */
  async #isCurrent(sockets: DaemonSockets): Promise<boolean> {
    const { connector, log } = this.#deps;
    const status = await connector.probeDaemon(sockets);
    if (!status || status.version === clientVersion) {
      return status !== undefined;
    }
    if (status.clients > 0) {
      throw daemonOfOtherVersion(status.version);
    }
    log.info('a daemon of another version is replaced', { version: status.version });
    await connector.quitDaemon(sockets);
    return false;
  }

  async #appears(
    sockets: DaemonSockets,
    limitMs: number,
    token: vscode.CancellationToken,
    ended: Promise<void>,
  ): Promise<boolean> {
    const end = systemClock.nowMs() + limitMs;
    let isOver = false;
    void ended.then(() => {
      isOver = true;
    });
    while (!token.isCancellationRequested && systemClock.nowMs() < end) {
      // Looked at before: a starter that has just ended may have started it.
      const wasOver = isOver;
      if (await this.#deps.connector.probeDaemon(sockets)) {
        return true;
      }
      if (wasOver) {
        return false;
      }
      await sleep(systemClock, pollMs);
    }
    return false;
  }
}

/**
 * The copy that only root can change; where it is missing, the packaged one puts it there and starts it, so that one
 * consent does both. In a development tree without a digest the built one is run as it is.
 */
async function commandFor(daemonPath: string, ids: readonly string[]): Promise<string[]> {
  const digest = await readDigest(daemonPath);
  if (digest === undefined) {
    return [daemonPath, 'run', ...ids];
  }
  const installed = await findInstalled(digest);
  return installed ? [installed, 'run', ...ids] : [daemonPath, 'install', '--digest', digest, '--then-run', ...ids];
}

/** Resolves when the program ends; a daemon that runs does not. */
function startSilently([file = '', ...args]: readonly string[]): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn(file, args, { detached: true, stdio: 'ignore' });
    child.on('error', () => resolve());
    child.on('exit', () => resolve());
    child.unref();
  });
}

function askInTerminal(command: readonly string[]): vscode.Terminal {
  const terminal = vscode.window.createTerminal({
    name: vscode.l10n.t('Nearfield daemon'),
    shellPath: '/usr/bin/sudo',
    shellArgs: [
      '-p',
      vscode.l10n.t('Nearfield adds a network device, routes and a name server while connected. Password of %u: '),
      ...command,
    ],
  });
  terminal.show();
  return terminal;
}
