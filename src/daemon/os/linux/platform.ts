import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Clock, Logger } from '../../../base/index.ts';
import { openLinuxTun, type TunAddon } from '../../tun/linux.ts';
import type { RunCommand } from '../command.ts';
import type { Platform } from '../contract.ts';
import { DnsRedirect, removeStaleTables } from './dns-redirect.ts';
import { LinuxFirewall } from './firewall.ts';
import { LinuxNetwork } from './network.ts';
import { startNft } from './nft-session.ts';
import { resolversOfMachine } from './resolv-conf.ts';
import { hasResolved, Resolved } from './resolved.ts';
import { LinuxResolver } from './resolver.ts';

export interface LinuxDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly run: RunCommand;
  /** Read when the device is opened: cleaning up needs none. */
  readonly addon: () => TunAddon;
}

/** Interface names have 15 characters at most. */
const deviceName = (uid: number): string => (uid === 0 ? 'nf0' : `nf${uid}`.slice(0, 15));

export function createLinuxPlatform({ clock, log, run, addon }: LinuxDeps): Platform {
  const firewall = new LinuxFirewall({ clock, log: log.child('firewall'), run, read: readText });
  return {
    deviceName,
    openDevice: (name) => openLinuxTun(addon(), name),
    createNetwork: () => new LinuxNetwork(run, clock),
    async createResolver(uid) {
      const redirect = new DnsRedirect({ clock, log: log.child('nft'), uid, start: () => startNft(clock) });
      const resolved = (await hasResolved(run)) ? new Resolved({ clock, run, read: readText }) : undefined;
      return new LinuxResolver(resolved, redirect, log.child('resolver'));
    },
    firewall,
    peerOf(socket) {
      // Node has no other way to a socket's descriptor.
      const { fd = -1 } = (socket as Socket & { _handle?: { fd?: number } })._handle ?? {};
      const uid = fd < 0 ? -1 : addon().peer(fd);
      return uid < 0 ? undefined : uid;
    },
    trim: () => addon().trim(),
    expire: (ms) => addon().expire(ms) !== 0,
    notify: (path, text) => addon().notify(path, text) !== 0,
    resolvers: async () => resolversOfMachine(readText('/etc/resolv.conf')),
    async cleanUp(uid) {
      await removeStaleTables(run, uid);
      await firewall.close(deviceName(uid));
    },
  };
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
