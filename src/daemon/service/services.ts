import type { Clock } from '../../base/index.ts';
import { noServiceManager } from '../errors.ts';
import type { RunCommand } from '../os/command.ts';
import type { FileSystem } from '../os/files.ts';
import { LaunchdService } from './launchd.ts';
import { SystemdService } from './systemd.ts';

export interface ServiceDeps {
  readonly run: RunCommand;
  readonly files: FileSystem;
  readonly clock: Clock;
}

/** What runs the daemon by itself, for one user after the other. All but `check`: errors of the commands. */
export interface ServiceManager {
  /** Errors: `daemon.no-service-manager`. */
  check(): Promise<void>;
  /** Installs and starts, over whatever there was: the program's path carries its digest, so a new one is a new unit. */
  install(owner: { readonly uid: number; readonly gid: number }, program: string): Promise<void>;
  /** Ends it and removes its files; idempotent. True when no other user has one. */
  remove(uid: number): Promise<boolean>;
  /** In the manager's own words: `active`, `running`, … */
  state(uid: number): Promise<string>;
}

/** By `process.platform`. Errors: `daemon.no-service-manager`. */
export function serviceManagerOf(platform: string, deps: ServiceDeps): ServiceManager {
  switch (platform) {
    case 'linux':
      return new SystemdService(deps);
    case 'darwin':
      return new LaunchdService(deps);
    default:
      // Windows runs only programs that speak to its service manager, which ours does not yet: see docs/platforms.md.
      throw noServiceManager('service manager that we know');
  }
}
