import { type Clock, type IpBytes, type Logger, parseIp } from '../../../base/index.ts';
import { openWindowsTun, type WintunAddon } from '../../tun/windows.ts';
import type { RunCommand } from '../command.ts';
import type { Platform } from '../contract.ts';
import { WindowsFirewall } from './firewall.ts';
import { WindowsNetwork } from './network.ts';
import { Nrpt } from './nrpt.ts';
import { ask, fromSystemFolder, listOf } from './powershell.ts';

export interface WindowsDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly run: RunCommand;
  readonly addon: () => WintunAddon;
  /** The folder of the daemon's program: `wintun.dll` is taken from there, and from nowhere else. */
  readonly programFolder: string;
}

const resolversQuestion = [
  'Get-NetIPInterface -ConnectionState Connected',
  'Sort-Object InterfaceMetric',
  'ForEach-Object { Get-DnsClientServerAddress -InterfaceIndex $_.InterfaceIndex -AddressFamily $_.AddressFamily }',
  'Select-Object ServerAddresses',
].join(' | ');

const deviceName = (uid: number): string => `nf${uid}`;
const nameServerAddress = (uid: number): string => `127.77.${(uid >>> 8) & 0xff}.${uid & 0xff}`;

/** Windows. The adapter and what is on it go with the process; the firewall's rule is removed by its name. */
export function createWindowsPlatform(deps: WindowsDeps): Platform {
  const { clock, log, addon, programFolder } = deps;
  const run = fromSystemFolder(deps.run, () => addon().systemDirectory());
  const resolverOf = (uid: number): Nrpt => new Nrpt({ run, device: deviceName(uid), address: nameServerAddress(uid) });
  const firewall = new WindowsFirewall(run, log.child('firewall'));
  return {
    deviceName,
    openDevice: (name) => openWindowsTun(addon(), name, programFolder),
    createNetwork: () => new WindowsNetwork({ clock, run }),
    createResolver: async (uid) => resolverOf(uid),
    firewall,
    // Windows asks on port 53 only; every address below 127 is the machine's own, and another user has another one.
    nameServer: (uid) => ({ address: nameServerAddress(uid), port: 53 }),
    // Pipes are opened for administrators only: whoever is connected is one.
    peerOf: () => 0,
    trim: () => undefined,
    resolvers: async () => toAddresses(await ask(run, resolversQuestion)),
    async cleanUp(uid) {
      const said = (error: unknown): void => log.warn('something of an old daemon may be left', { error });
      await firewall.close(deviceName(uid)).catch(said);
      await resolverOf(uid).clear().catch(said);
    },
  };
}

/** Site-local addresses that Windows gives to adapters without a resolver; nobody answers there. */
const placeholders: readonly string[] = ['fec0:0:0:ffff::1', 'fec0:0:0:ffff::2', 'fec0:0:0:ffff::3'];

export function toAddresses(answer: unknown): IpBytes[] {
  const texts = listOf(answer).flatMap(({ ServerAddresses: each }) => (Array.isArray(each) ? each : [each]));
  const unique = new Set(texts.filter((each): each is string => typeof each === 'string'));
  return [...unique]
    .filter((each) => !placeholders.includes(each))
    .map(parseIp)
    .filter((each) => each !== undefined);
}
