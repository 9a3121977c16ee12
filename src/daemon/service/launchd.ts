import { sleep, withTimeout } from '../../base/index.ts';
import { noServiceManager } from '../errors.ts';
import type { ServiceDeps, ServiceManager } from './services.ts';
import { launchdPlist } from './units.ts';

const folder = '/Library/LaunchDaemons';
const prefix = 'dev.nearfield.daemon.';
const label = (uid: number): string => `${prefix}${uid}`;
const target = (uid: number): string => `system/${label(uid)}`;
const plistPath = (uid: number): string => `${folder}/${label(uid)}.plist`;

const goneLimitMs = 15_000;
const stepMs = 100;

/** A property list for each user, in launchd's system domain. */
export class LaunchdService implements ServiceManager {
  readonly #deps: ServiceDeps;

  constructor(deps: ServiceDeps) {
    this.#deps = deps;
  }

  async check(): Promise<void> {
    await this.#launchctl('print', 'system').catch(() => {
      throw noServiceManager('launchd');
    });
  }

  async install({ uid, gid }: { readonly uid: number; readonly gid: number }, program: string): Promise<void> {
    await this.check();
    await this.#end(uid);
    this.#deps.files.write(plistPath(uid), launchdPlist(program, uid, gid));
    // One that a person has disabled would otherwise be loaded and not run.
    await this.#launchctl('enable', target(uid));
    await this.#launchctl('bootstrap', 'system', plistPath(uid));
  }

  async remove(uid: number): Promise<boolean> {
    await this.#end(uid);
    this.#deps.files.remove(plistPath(uid));
    return !this.#deps.files.list(folder).some((name) => name.startsWith(prefix));
  }

  async state(uid: number): Promise<string> {
    const text = await this.#launchctl('print', target(uid)).catch(() => '');
    return /^\s*state = (.+)$/m.exec(text)?.[1] ?? 'not installed';
  }

  /** `bootout` returns before the program has ended, and `bootstrap` refuses what still is there. */
  async #end(uid: number): Promise<void> {
    const { clock } = this.#deps;
    await this.#launchctl('bootout', target(uid)).catch(() => undefined);
    await withTimeout(clock, goneLimitMs, 'the end of the service', async (signal) => {
      while (!signal.aborted && (await this.state(uid)) !== 'not installed') {
        await sleep(clock, stepMs, signal);
      }
    });
  }

  #launchctl(...args: readonly string[]): Promise<string> {
    return this.#deps.run('launchctl', args);
  }
}
