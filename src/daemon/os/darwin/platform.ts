import type { Socket } from 'node:net';
import type { Clock, Logger } from '../../../base/index.ts';
import { openDarwinTun, type UtunAddon } from '../../tun/darwin.ts';
import type { RunCommand } from '../command.ts';
import type { Platform, ResolverBackend } from '../contract.ts';
import { DarwinNetwork } from './network.ts';
import { parseScutil } from './routes.ts';

export interface DarwinDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly run: RunCommand;
  /** Read when the device is opened: cleaning up needs none. */
  readonly addon: () => UtunAddon;
  /** What it made is found again by its names: clearing a new one clears a killed predecessor's. */
  readonly createResolver: (uid: number) => ResolverBackend;
}

/**
 * macOS. The device and all routes go with the process. The packet filter lets everything in as it comes, and the
 * application firewall asks about programs, not devices: there is nothing to open.
 */
export function createDarwinPlatform({ clock, run, addon, createResolver }: DarwinDeps): Platform {
  return {
    // The system numbers its devices itself.
    deviceName: () => 'utun',
    openDevice: () => openDarwinTun(addon()),
    createNetwork: () => new DarwinNetwork({ clock, run }),
    createResolver: async (uid) => createResolver(uid),
    firewall: { open: async () => undefined, close: async () => undefined },
    peerOf(socket) {
      // Node has no other way to a socket's descriptor.
      const { fd = -1 } = (socket as Socket & { _handle?: { fd?: number } })._handle ?? {};
      return fd < 0 ? undefined : addon().peer(fd);
    },
    // Code pages are the system's own affair there.
    trim: () => undefined,
    resolvers: async () => parseScutil(await run('scutil', ['--dns'])),
    cleanUp: (uid) => createResolver(uid).clear(),
  };
}
