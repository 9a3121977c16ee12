import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { noServiceManager } from '../errors.ts';
import type { RunCommand } from '../os/command.ts';
import { systemdUnit } from './units.ts';

const unitPath = '/etc/systemd/system/nearfield-daemon@.service';
const instance = (uid: number): string => `nearfield-daemon@${uid}.service`;

/** The daemon as a service of systemd. Errors: `daemon.no-service-manager`. */
export class SystemdService {
  readonly #run: RunCommand;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  /** Installs, or upgrades what is installed: the unit names the program by its digest, so a new one is a new unit. */
  async install(uid: number, program: string): Promise<void> {
    await this.#check();
    await mkdir(dirname(unitPath), { recursive: true });
    await writeFile(unitPath, systemdUnit(program), { mode: 0o644 });
    await this.#run('systemctl', ['daemon-reload']);
    await this.#run('systemctl', ['enable', instance(uid)]);
    await this.#run('systemctl', ['restart', instance(uid)]);
  }

  async remove(uid: number): Promise<void> {
    await this.#check();
    await this.#run('systemctl', ['disable', '--now', instance(uid)]).catch(() => undefined);
    const others = await this.#run('systemctl', [
      'list-units',
      '--all',
      '--plain',
      '--no-legend',
      instance(0).replace('0', '*'),
    ]);
    if (!others.split('\n').some((line) => line.trim() !== '' && !line.includes(instance(uid)))) {
      await rm(unitPath, { force: true });
      await this.#run('systemctl', ['daemon-reload']);
    }
  }

  /** `active`, `inactive`, `failed`, …, in systemd's words. */
  async state(uid: number): Promise<string> {
    await this.#check();
    return (await this.#run('systemctl', ['show', '--property=ActiveState', '--value', instance(uid)])).trim();
  }

  async #check(): Promise<void> {
    await this.#run('systemctl', ['is-system-running', '--quiet']).catch(async () => {
      // A degraded system runs as well; one without systemd does not answer at all.
      const state = await this.#run('systemctl', ['show', '--property=Version', '--value']).catch(() => '');
      if (state.trim() === '') {
        throw noServiceManager();
      }
    });
  }
}
