import { type Clock, cancelled, type Logger, toError } from '../../base/index.ts';
import { loadKube } from '../../kube/index.ts';
import type { InstallPreview, InstallRequest, InstallStep } from '../contract.ts';
import { installRunning } from '../errors.ts';
import { installManager } from './install.ts';
import { type InstallOptions, readInstallOptions } from './options.ts';
import { type Change, describeChanges, planInstall } from './plan.ts';
import { uninstallManager } from './uninstall.ts';

export interface InstallerDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly onStep: () => void;
}

/** One installation or removal at a time, with what it is doing, and a way to stop it. */
export class Installer {
  readonly #deps: InstallerDeps;
  #running: AbortController | undefined;
  #step: InstallStep | undefined;

  constructor(deps: InstallerDeps) {
    this.#deps = deps;
  }

  get step(): InstallStep | undefined {
    return this.#step;
  }

  async preview(request: InstallRequest): Promise<InstallPreview> {
    const changes = await planInstall(loadKube(request), optionsOf(request), { takeOver: request.takeOver });
    return {
      changes: changes.flatMap(({ action, what }) => (action === 'none' ? [] : [{ action, what }])),
      text: describeChanges(changes),
    };
  }

  async install(request: InstallRequest): Promise<void> {
    const options = optionsOf(request);
    await this.#run<readonly Change[]>((signal) =>
      installManager(this.#parts(request), options, { takeOver: request.takeOver, signal }),
    );
  }

  async uninstall(request: InstallRequest): Promise<void> {
    const options = optionsOf(request);
    await this.#run((signal) =>
      uninstallManager(this.#parts(request), options, { evenWithAgents: request.evenWithAgents, signal }),
    );
  }

  cancel(): void {
    this.#running?.abort();
  }

  async #run<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#running) {
      throw installRunning();
    }
    const controller = new AbortController();
    this.#running = controller;
    try {
      return await work(controller.signal);
    } catch (error) {
      throw controller.signal.aborted ? cancelled(controller.signal) : toError(error);
    } finally {
      this.#running = undefined;
      this.#show(undefined);
    }
  }

  #parts(request: InstallRequest) {
    const { clock, log } = this.#deps;
    return {
      kube: loadKube(request),
      clock,
      log: log.child('install'),
      onStep: (step: string, detail?: string) => this.#show({ step, ...(detail === undefined ? {} : { detail }) }),
    };
  }

  #show(step: InstallStep | undefined): void {
    this.#step = step;
    this.#deps.onStep();
  }
}

const optionsOf = ({ managerNamespace, image, options }: InstallRequest): InstallOptions =>
  readInstallOptions({ namespace: managerNamespace, image, options });
