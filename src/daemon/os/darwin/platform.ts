import type { Socket } from 'node:net';
import type { Clock } from '../../../base/index.ts';
import { openDarwinTun, type UtunAddon } from '../../tun/darwin.ts';
import type { RunCommand } from '../command.ts';
import type { Platform } from '../contract.ts';
import type { FileSystem } from '../files.ts';
import { DarwinNetwork } from './network.ts';
import { ResolverFiles } from './resolver-files.ts';
import { parseScutil } from './routes.ts';

export interface DarwinDeps {
  readonly clock: Clock;
  readonly run: RunCommand;
  /** Read when the device is opened: cleaning up needs none. */
  readonly addon: () => UtunAddon;
  readonly files: FileSystem;
}

/** Another user's daemon has files of its own. */
const resolverOf = (files: FileSystem, uid: number): ResolverFiles => new ResolverFiles(files, `nearfield-${uid}.`);

/**
 * macOS. The device and all routes go with the process. The packet filter lets everything in as it comes, and the
 * application firewall asks about programs, not devices: there is nothing to open.
 */
export function createDarwinPlatform({ clock, run, addon, files }: DarwinDeps): Platform {
  return {
    // The system numbers its devices itself.
    deviceName: () => 'utun',
    openDevice: () => openDarwinTun(addon()),
    createNetwork: () => new DarwinNetwork({ clock, run }),
    createResolver: async (uid) => resolverOf(files, uid),
    firewall: { open: async () => undefined, close: async () => undefined },
    peerOf(socket) {
      // Node has no other way to a socket's descriptor.
      const { fd = -1 } = (socket as Socket & { _handle?: { fd?: number } })._handle ?? {};
      return fd < 0 ? undefined : addon().peer(fd);
    },
    // Code pages are the system's own affair there.
    trim: () => undefined,
    expire: (ms) => addon().expire(ms) !== 0,
    resolvers: async () => parseScutil(await run('scutil', ['--dns'])),
    // The files are found again by their names.
    cleanUp: (uid) => resolverOf(files, uid).clear(),
  };
}
