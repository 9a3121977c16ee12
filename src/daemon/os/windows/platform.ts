import { type Clock, type IpBytes, type Logger, parseIp, toError } from '../../../base/index.ts';
import { openWindowsTun, type WintunAddon } from '../../tun/windows.ts';
import type { RunCommand } from '../command.ts';
import type { Platform, ResolverBackend } from '../contract.ts';
import { WindowsFirewall } from './firewall.ts';
import { WindowsNetwork } from './network.ts';
import { ask, listOf } from './powershell.ts';

export interface WindowsDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly run: RunCommand;
  readonly addon: () => WintunAddon;
  /** The folder of the daemon's program: `wintun.dll` is taken from there, and from nowhere else. */
  readonly programFolder: string;
  /** What it made is found again by its names: clearing a new one clears a killed predecessor's. */
  readonly createResolver: (uid: number) => ResolverBackend;
}

const resolversQuestion = [
  'Get-NetIPInterface -ConnectionState Connected',
  'Sort-Object InterfaceMetric',
  'ForEach-Object { Get-DnsClientServerAddress -InterfaceIndex $_.InterfaceIndex -AddressFamily $_.AddressFamily }',
  'Select-Object ServerAddresses',
].join(' | ');

const deviceName = (uid: number): string => `nf${uid}`;

/** Windows. The adapter and what is on it go with the process; the firewall's rule is removed by its name. */
export function createWindowsPlatform(deps: WindowsDeps): Platform {
  const { clock, log, addon, programFolder, createResolver } = deps;
  const run = inSystemFolder(deps.run, () => addon().systemDirectory());
  const firewall = new WindowsFirewall(run);
  return {
    deviceName,
    openDevice: (name) => openWindowsTun(addon(), name, programFolder),
    createNetwork: () => new WindowsNetwork({ clock, run }),
    createResolver: async (uid) => createResolver(uid),
    firewall,
    // Pipes are opened for administrators only: whoever is connected is one.
    peerOf: () => 0,
    trim: () => undefined,
    resolvers: async () => toAddresses(await ask(run, resolversQuestion)),
    async cleanUp(uid) {
      await firewall
        .close(deviceName(uid))
        .catch((error: unknown) => log.warn('an old firewall rule may be left', { error: toError(error) }));
      await createResolver(uid).clear();
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

const places: Readonly<Record<string, string>> = { powershell: 'WindowsPowerShell\\v1.0\\powershell.exe' };

/** By full path: a program that is searched for is first looked for where the daemon happens to be. */
function inSystemFolder(run: RunCommand, folder: () => string): RunCommand {
  return (file, args) => run(`${folder()}\\${places[file] ?? `${file}.exe`}`, args);
}
