import { accessSync, constants } from 'node:fs';
import * as vscode from 'vscode';
import { cancelled, type Logger, sleep, systemClock } from '../../base/index.ts';
import type { Connector, DaemonSockets } from '../../connector/index.ts';
import { clientVersion, type DaemonProbe, daemonSocketPaths } from '../../protocol/index.ts';
import {
  daemonFailed,
  daemonMissing,
  daemonNotStarted,
  daemonOfOtherVersion,
  elevationRefused,
  noServiceCopy,
  noServiceManager,
} from '../errors.ts';
import { type Consent, type MachineFacts, type Way, waysToElevate } from './elevation.ts';
import { findInstalled, readDigest } from './installed.ts';
import { type Outcome, startElevated } from './starter.ts';

const pollMs = 100;
/** Where nobody is asked, the daemon is there within a moment; a service takes its manager's time. */
const quickWaitMs = 5_000;
const serviceWaitMs = 30_000;
/** A person types a password. */
const personWaitMs = 120_000;

export interface LauncherDeps {
  readonly connector: Connector;
  readonly log: Logger;
  readonly daemonPath: string;
  readonly facts: MachineFacts;
  /** A service manager that we know runs here. */
  readonly hasServiceManager: () => boolean;
}

interface Task {
  readonly what: string;
  readonly consent: Consent;
  /** The program for a way: one that a person watches must come to an end by itself. */
  readonly program: (way: Way) => readonly string[];
  /** Whether it has done what it was to do, asked again and again. `isOver`: the program has ended. */
  readonly isDone: (daemon: DaemonProbe | undefined, isOver: boolean) => boolean;
  readonly quickWaitMs: number;
}

/**
 * Makes sure that a daemon of this user runs, by the ways to root that this machine has. It never trusts an exit code: the
 * daemon answers, or it is not there.
 */
export class DaemonLauncher {
  readonly #deps: LauncherDeps;
  readonly #uid = process.getuid?.() ?? 0;
  readonly #gid = process.getgid?.() ?? this.#uid;
  readonly #sockets = daemonSocketPaths(this.#uid);

  constructor(deps: LauncherDeps) {
    this.#deps = deps;
  }

  /** Errors: `cancelled`, and those of `extension` about the daemon. */
  async ensure(consent: Consent, token: vscode.CancellationToken): Promise<DaemonSockets> {
    const { connector, log, daemonPath } = this.#deps;
    const status = await connector.probeDaemon(this.#sockets);
    if (status?.version === clientVersion) {
      return this.#sockets;
    }
    if (status && status.clients > 0) {
      throw daemonOfOtherVersion(status.version);
    }
    if (status?.service) {
      // Quitting would end it until the next boot, and leave the old one to begin again then.
      log.info('the service has another version and is installed again', { version: status.version });
      await this.installService(consent, token);
      return this.#sockets;
    }
    if (status) {
      log.info('a daemon of another version is replaced', { version: status.version });
      await connector.quitDaemon(this.#sockets);
    }
    this.#checkPackaged();
    const digest = await readDigest(daemonPath);
    const installed = digest === undefined ? daemonPath : await findInstalled(digest);
    await this.#run(
      {
        what: 'starting the daemon',
        consent,
        program: (way) =>
          installed === undefined
            ? [daemonPath, 'install', '--digest', digest ?? '', '--then-run', ...this.#ids]
            : [installed, 'run', ...this.#ids, ...(staysOpen(way) ? ['--background'] : [])],
        isDone: (daemon) => daemon !== undefined,
        quickWaitMs,
      },
      token,
    );
    return this.#sockets;
  }

  /** Installs this version as a service, over whichever there is. Nobody may be using a daemon meanwhile. */
  async installService(consent: Consent, token: vscode.CancellationToken): Promise<void> {
    const { connector, daemonPath } = this.#deps;
    this.#checkPackaged();
    this.#checkManager();
    const digest = await readDigest(daemonPath);
    if (digest === undefined) {
      throw noServiceCopy();
    }
    const program = (await findInstalled(digest)) ?? daemonPath;
    const status = await connector.probeDaemon(this.#sockets);
    if (status && !status.service) {
      await connector.quitDaemon(this.#sockets);
    }
    await this.#run(
      {
        what: 'installing the service',
        consent,
        program: () => [program, 'service', 'install', '--digest', digest, ...this.#ids],
        isDone: (daemon) => daemon?.service === true && daemon.version === clientVersion,
        quickWaitMs: serviceWaitMs,
      },
      token,
    );
  }

  async removeService(consent: Consent, token: vscode.CancellationToken): Promise<void> {
    this.#checkPackaged();
    this.#checkManager();
    const { daemonPath } = this.#deps;
    const digest = await readDigest(daemonPath);
    const program = (digest && (await findInstalled(digest))) || daemonPath;
    await this.#run(
      {
        what: 'removing the service',
        consent,
        program: () => [program, 'service', 'remove', ...this.#ids],
        isDone: (daemon, isOver) => isOver && daemon?.service !== true,
        quickWaitMs: serviceWaitMs,
      },
      token,
    );
  }

  get #ids(): readonly string[] {
    return ['--uid', String(this.#uid), '--gid', String(this.#gid)];
  }

  #checkPackaged(): void {
    try {
      accessSync(this.#deps.daemonPath, constants.X_OK);
    } catch (error) {
      throw daemonMissing(error);
    }
  }

  #checkManager(): void {
    if (!this.#deps.hasServiceManager()) {
      throw noServiceManager();
    }
  }

  /** One way after the other, until it is done or somebody says no. */
  async #run(task: Task, token: vscode.CancellationToken): Promise<void> {
    for (const way of waysToElevate(this.#deps.facts, task.consent)) {
      this.#deps.log.info(task.what, { way });
      const outcome = await this.#try(way, task, token);
      if (outcome === 'done') {
        return;
      }
      if (token.isCancellationRequested || outcome?.ending === 'cancelled') {
        throw cancelled();
      }
      if (outcome?.ending === 'failed') {
        throw daemonFailed(outcome.sentence);
      }
      if (outcome?.ending === 'refused') {
        throw elevationRefused();
      }
    }
    throw daemonNotStarted();
  }

  async #try(way: Way, task: Task, token: vscode.CancellationToken): Promise<Outcome | 'done' | undefined> {
    const starter = startElevated(way, task.program(way), promptOf(way));
    const end = { ms: systemClock.nowMs() + (way === 'direct' || way === 'quiet' ? task.quickWaitMs : personWaitMs) };
    let outcome: Outcome | undefined;
    void starter.ended.then((found) => {
      outcome = found;
      if (way === 'osascript') {
        // It has only left the program behind.
        end.ms = Math.min(end.ms, systemClock.nowMs() + task.quickWaitMs);
      }
    });
    try {
      while (!token.isCancellationRequested && systemClock.nowMs() < end.ms) {
        // Looked at before: a starter that has just ended may have started it.
        const before = outcome;
        if (task.isDone(await this.#deps.connector.probeDaemon(this.#sockets), before !== undefined)) {
          return 'done';
        }
        if (before && !(way === 'osascript' && before.ending === 'ended')) {
          return before;
        }
        await sleep(systemClock, pollMs);
      }
      return outcome;
    } finally {
      starter.dispose();
    }
  }
}

/** A dialog asks for the password by itself. */
function promptOf(way: Way): string {
  return way === 'terminal'
    ? vscode.l10n.t('Nearfield adds a network device, routes and a name server while connected. Password of %u: ')
    : vscode.l10n.t('Nearfield adds a network device, routes and a name server while connected.');
}

/** These end with their window, or are waited for: the daemon must not live in them. */
function staysOpen(way: Way): boolean {
  return way === 'terminal' || way === 'osascript';
}
