import { readdir, readFile } from 'node:fs/promises';
import type { RunCommand } from '../command.ts';

export interface OwnerDeps {
  readonly run: RunCommand;
  /** `/proc`, or a stand-in for it. */
  readonly processes?: string;
}

const maxProcesses = 20_000;
/** What made a device, by the beginning of its name: programs whose devices nothing else tells apart. */
const byName: readonly (readonly [RegExp, string])[] = [
  [/^(docker\d|br-[0-9a-f]{12}$|docker_gwbridge)/, 'Docker'],
  [/^podman\d/, 'Podman'],
  [/^virbr\d/, 'libvirt'],
  [/^(cni\d|flannel)/, 'a Kubernetes node on this machine'],
  [/^(cali|tunl\d|vxlan\.calico)/, 'Calico'],
  [/^(cilium_|lxc)/, 'Cilium'],
  [/^tailscale\d/, 'Tailscale'],
  [/^zt/, 'ZeroTier'],
  [/^tel\d/, 'Telepresence'],
  [/^nf\d/, 'the Nearfield daemon of another user'],
];
const byKind: Readonly<Record<string, string>> = {
  wireguard: 'WireGuard',
  bridge: 'a bridge',
  vxlan: 'a VXLAN',
  ipip: 'an IPIP tunnel',
  gre: 'a GRE tunnel',
  xfrm: 'IPsec',
};

/**
 * Who made a device: the program that holds a TUN, else what its name or its kind says. Undefined for an ordinary
 * network card, where the device's name says enough.
 */
export async function ownerOfDevice(
  device: string,
  { run, processes = '/proc' }: OwnerDeps,
): Promise<string | undefined> {
  const kind = await kindOf(device, run);
  if (kind === 'tun') {
    const holder = await holderOfTun(device, processes);
    if (holder) {
      return `${holder.name} (process ${holder.pid})`;
    }
  }
  return byName.find(([pattern]) => pattern.test(device))?.[1] ?? byKind[kind];
}

async function kindOf(device: string, run: RunCommand): Promise<string> {
  const text = await run('ip', ['-j', '-d', 'link', 'show', 'dev', device]).catch(() => '[]');
  const [link] = JSON.parse(text) as { linkinfo?: { info_kind?: string } }[];
  return link?.linkinfo?.info_kind ?? '';
}

/** The kernel writes the device's name beside the descriptor: `iff: tun9` (drivers/net/tun.c). */
async function holderOfTun(device: string, processes: string): Promise<{ name: string; pid: string } | undefined> {
  const pids = (await readdir(processes).catch(() => [])).filter((name) => /^\d+$/.test(name)).slice(0, maxProcesses);
  for (const pid of pids) {
    const folder = `${processes}/${pid}/fdinfo`;
    for (const descriptor of await readdir(folder).catch(() => [])) {
      const text = await readFile(`${folder}/${descriptor}`, 'utf8').catch(() => '');
      if (/^iff:\s*(\S+)/m.exec(text)?.[1] === device) {
        return { pid, name: printable(await readFile(`${processes}/${pid}/comm`, 'utf8').catch(() => '')) };
      }
    }
  }
  return undefined;
}

/** A program chooses its name: only letters reach a sentence. */
function printable(text: string): string {
  return text.replace(/[^\w.+ -]/g, '').trim() || 'a program';
}
