import { accessSync, constants, lstatSync } from 'node:fs';
import * as vscode from 'vscode';
import { type Logger, sleep, systemClock } from '../../base/index.ts';
import type { Connector, DaemonSockets } from '../../connector/index.ts';
import { clientVersion, type DaemonProbe, daemonServiceFile, daemonSocketPaths } from '../../protocol/index.ts';
import { daemonMissing, daemonOfOtherVersion, noServiceCopy, noServiceManager } from '../errors.ts';
import { type Consent, type MachineFacts, type Way, waysToElevate } from './elevation.ts';
import { startHidden } from './hidden.ts';
import { findInstalled, readDigest } from './installed.ts';
import { climb, type Task } from './ladder.ts';
import { startInTerminal } from './terminal.ts';

/** Where nobody is asked, the daemon is there within a moment; a service takes its manager's time. */
const quickWaitMs = 5_000;
const serviceWaitMs = 30_000;
const serviceStartMs = 3_000;
const leaveLimitMs = 3_000;
const stepMs = 100;

export interface LauncherDeps {
  readonly connector: Connector;
  readonly log: Logger;
  readonly daemonPath: string;
  readonly facts: MachineFacts;
  /** A service manager that we know runs here. */
  readonly hasServiceManager: () => boolean;
}

interface Undertaking extends Task {
  readonly what: string;
  readonly consent: Consent;
  /** The program for a way: one that a person watches must come to an end by itself. */
  readonly program: (way: Way) => readonly string[];
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
    const digest = await readDigest(daemonPath);
    const isService = digest !== undefined && this.#isService();
    const status = await (isService ? this.#soon() : connector.probeDaemon(this.#sockets));
    if (status?.version === clientVersion) {
      return this.#sockets;
    }
    if (status && status.clients > 0) {
      throw daemonOfOtherVersion(status.version);
    }
    if (status?.service || (isService && !status)) {
      // Ending it would leave the old one to begin again with the next boot.
      log.info('the service does not run, or has another version: it is installed again', { version: status?.version });
      await this.installService(consent, token);
      return this.#sockets;
    }
    if (status) {
      log.info('a daemon of another version is replaced', { version: status.version });
      await connector.quitDaemon(this.#sockets);
    }
    this.#checkPackaged();
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
    const isCurrent = (daemon: DaemonProbe | undefined): boolean =>
      daemon?.service === true && daemon.version === clientVersion && this.#isService();
    const status = await this.#unused();
    if (isCurrent(status)) {
      return;
    }
    if (status && !status.service) {
      await connector.quitDaemon(this.#sockets);
    }
    const program = (await findInstalled(digest)) ?? daemonPath;
    await this.#run(
      {
        what: 'installing the service',
        consent,
        program: () => [program, 'service', 'install', '--digest', digest, ...this.#ids],
        isDone: isCurrent,
        quickWaitMs: serviceWaitMs,
      },
      token,
    );
  }

  async removeService(consent: Consent, token: vscode.CancellationToken): Promise<void> {
    this.#checkPackaged();
    this.#checkManager();
    const { daemonPath } = this.#deps;
    const status = await this.#unused();
    if (!this.#isService() && !status?.service) {
      return;
    }
    const digest = await readDigest(daemonPath);
    const program = (digest && (await findInstalled(digest))) || daemonPath;
    await this.#run(
      {
        what: 'removing the service',
        consent,
        program: () => [program, 'service', 'remove', ...this.#ids],
        isDone: (daemon) => !this.#isService() && daemon?.service !== true,
        quickWaitMs: serviceWaitMs,
      },
      token,
    );
  }

  /** A service may be about to begin, after a boot or a failure. */
  async #soon(): Promise<DaemonProbe | undefined> {
    const endMs = systemClock.nowMs() + serviceStartMs;
    for (;;) {
      const status = await this.#deps.connector.probeDaemon(this.#sockets);
      if (status || systemClock.nowMs() > endMs) {
        return status;
      }
      await sleep(systemClock, stepMs);
    }
  }

  /** The daemon that runs, once no window uses it: ours may have left this moment. */
  async #unused(): Promise<DaemonProbe | undefined> {
    const endMs = systemClock.nowMs() + leaveLimitMs;
    for (;;) {
      const status = await this.#deps.connector.probeDaemon(this.#sockets);
      if (!status || status.clients === 0) {
        return status;
      }
      if (systemClock.nowMs() > endMs) {
        throw daemonOfOtherVersion(status.version);
      }
      await sleep(systemClock, stepMs);
    }
  }

  get #ids(): readonly string[] {
    return ['--uid', String(this.#uid), '--gid', String(this.#gid)];
  }

  #isService(): boolean {
    const file = daemonServiceFile(this.#uid, this.#deps.facts.platform);
    // A link that leads nowhere is one, too.
    return file !== undefined && lstatSync(file, { throwIfNoEntry: false }) !== undefined;
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

  async #run({ what, consent, program, ...task }: Undertaking, token: vscode.CancellationToken): Promise<void> {
    const { connector, facts, log } = this.#deps;
    const controller = new AbortController();
    const listener = token.onCancellationRequested(() => controller.abort());
    if (token.isCancellationRequested) {
      controller.abort();
    }
    try {
      await climb(
        {
          clock: systemClock,
          ways: waysToElevate(facts, consent),
          signal: controller.signal,
          probe: () => connector.probeDaemon(this.#sockets),
          start: (way) => {
            log.info(what, { way });
            const prompt = promptOf(way);
            return way === 'terminal' ? startInTerminal(program(way), prompt) : startHidden(way, program(way), prompt);
          },
        },
        task,
      );
    } finally {
      listener.dispose();
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
