import type { Clock, Logger } from '../../base/index.ts';
import { unsupportedPlatform } from '../errors.ts';
import type { UtunAddon } from '../tun/darwin.ts';
import type { TunAddon } from '../tun/linux.ts';
import type { WintunAddon } from '../tun/windows.ts';
import type { RunCommand } from './command.ts';
import type { Platform } from './contract.ts';
import { createDarwinPlatform } from './darwin/platform.ts';
import { realFiles } from './files.ts';
import { createLinuxPlatform } from './linux/platform.ts';
import { createWindowsPlatform } from './windows/platform.ts';

export interface PlatformDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly run: RunCommand;
  /** The device addon of this system: its exports are the table's to know. */
  readonly addon: () => unknown;
  /** Where the daemon's program lies. */
  readonly programFolder: string;
}

/** What differs before there is a platform. */
export interface System {
  readonly addonName: string;
  /** A file that is loaded cannot be removed there: the addon lies beside the program instead of within. */
  readonly isAddonBeside: boolean;
  /** Whether this process may do what the daemon does. */
  isPrivileged(addon: () => unknown): boolean;
  create(deps: PlatformDeps): Platform;
}

/** By `process.platform`. */
const systems: Readonly<Record<string, System>> = {
  linux: {
    addonName: 'tun-linux.node',
    isAddonBeside: false,
    isPrivileged: isRoot,
    create: (deps) => createLinuxPlatform({ ...deps, addon: () => deps.addon() as TunAddon }),
  },
  darwin: {
    addonName: 'tun-darwin.node',
    isAddonBeside: false,
    isPrivileged: isRoot,
    create: (deps) => createDarwinPlatform({ ...deps, addon: () => deps.addon() as UtunAddon, files: realFiles }),
  },
  win32: {
    addonName: 'tun-windows.node',
    isAddonBeside: true,
    isPrivileged: (addon) => (addon() as WintunAddon).isElevated(),
    create: (deps) => createWindowsPlatform({ ...deps, addon: () => deps.addon() as WintunAddon }),
  },
};

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Errors: `daemon.unsupported-platform`. */
export function systemOf(platform: string): System {
  const system = Object.hasOwn(systems, platform) ? systems[platform] : undefined;
  if (!system) {
    throw unsupportedPlatform(platform);
  }
  return system;
}
