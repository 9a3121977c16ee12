import { noServiceManager } from '../errors.ts';
import type { ServiceDeps, ServiceManager } from './services.ts';
import { systemdUnit } from './units.ts';

const unitPath = '/etc/systemd/system/nearfield-daemon@.service';
const instance = (uid: number | '*'): string => `nearfield-daemon@${uid}.service`;

/** One template for all users, one instance for each. */
export class SystemdService implements ServiceManager {
  readonly #deps: ServiceDeps;

  constructor(deps: ServiceDeps) {
    this.#deps = deps;
  }

  async check(): Promise<void> {
    // Also a degraded system answers; without systemd there is nobody to.
    const version = await this.#systemctl('show', '--property=Version', '--value').catch(() => '');
    if (version.trim() === '') {
      throw noServiceManager('systemd');
    }
  }

  async install({ uid }: { readonly uid: number }, program: string): Promise<void> {
    await this.check();
    this.#deps.files.write(unitPath, systemdUnit(program));
    await this.#systemctl('daemon-reload');
    // One that failed too often is given another chance.
    await this.#systemctl('reset-failed', instance(uid)).catch(() => undefined);
    await this.#systemctl('enable', instance(uid));
    // Waits until it serves. Instances of other users go on as they are until their next start.
    await this.#systemctl('restart', instance(uid));
  }

  async remove(uid: number): Promise<boolean> {
    await this.check();
    await this.#systemctl('disable', '--now', instance(uid)).catch(() => undefined);
    await this.#systemctl('reset-failed', instance(uid)).catch(() => undefined);
    const enabled = await this.#systemctl('list-units', '--all', '--plain', '--no-legend', instance('*'));
    const isLast = !enabled.split('\n').some((line) => line.trim() !== '' && !line.includes(instance(uid)));
    if (isLast) {
      this.#deps.files.remove(unitPath);
      await this.#systemctl('daemon-reload');
    }
    return isLast;
  }

  async state(uid: number): Promise<string> {
    await this.check();
    return (await this.#systemctl('show', '--property=ActiveState', '--value', instance(uid))).trim();
  }

  #systemctl(...args: readonly string[]): Promise<string> {
    return this.#deps.run('systemctl', args);
  }
}
