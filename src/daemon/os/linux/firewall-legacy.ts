import type { RunCommand } from '../command.ts';
import { type FirewallKind, firewallMark, isOpenable, mayDrop } from './firewall-rules.ts';

interface Family {
  readonly program: string;
  readonly alternative: string;
  /** The kernel's list of the tables that exist. Asking the program instead would create them. */
  readonly tables: string;
}

const versions: readonly Family[] = [
  { program: 'iptables-legacy', alternative: 'iptables', tables: '/proc/net/ip_tables_names' },
  { program: 'ip6tables-legacy', alternative: 'ip6tables', tables: '/proc/net/ip6_tables_names' },
];

/** Chains by table: those through which a packet for this machine comes in. */
const chains: Readonly<Record<string, readonly string[]>> = {
  raw: ['PREROUTING'],
  mangle: ['PREROUTING', 'INPUT'],
  filter: ['INPUT'],
  security: ['INPUT'],
};

/** iptables as it was before nftables: its tables are the kernel's own, which nft does not see. */
export function createLegacyFirewall(run: RunCommand, read: (path: string) => string | undefined): FirewallKind {
  /** Calls back for each chain with its lines as `iptables -S` prints them. */
  const each = async (
    work: (iptables: (...args: string[]) => Promise<string>, chain: string, lines: readonly string[]) => Promise<void>,
  ): Promise<void> => {
    for (const family of versions) {
      const tables = (read(family.tables) ?? '').split('\n').filter((table) => chains[table]);
      const program = tables.length > 0 ? await programOf(run, family) : undefined;
      for (const table of program ? tables : []) {
        // Waits for others who hold the lock, but not long.
        const iptables = (...args: string[]): Promise<string> => run(program ?? '', ['-w', '2', '-t', table, ...args]);
        for (const chain of chains[table] ?? []) {
          await work(iptables, chain, (await iptables('-S', chain)).split('\n'));
        }
      }
    }
  };
  const rule = (device: string): string[] => [
    ...['-i', device, '-m', 'comment', '--comment', firewallMark(device)],
    ...['-j', 'ACCEPT'],
  ];

  return {
    name: 'iptables-legacy',
    open: (device) =>
      each(async (iptables, chain, lines) => {
        const policy = lines.includes(`-P ${chain} DROP`) ? 'drop' : 'accept';
        const rules = lines.filter((line) => line.startsWith('-A '));
        const first = rules.findIndex(lineMayDrop);
        const ours = rules.filter((line) => isOurs(line, device)).length;
        const isFirst = first < 0 || rules.findIndex((line) => isOurs(line, device)) < first;
        const isNeeded = isOpenable(chain === 'INPUT' ? 'input' : 'prerouting', policy, first >= 0);
        if (isNeeded ? ours === 1 && isFirst : ours === 0) {
          return;
        }
        // By what it says and not by its number, which another program may have changed meanwhile.
        for (let index = 0; index < ours; index++) {
          await iptables('-D', chain, ...rule(device));
        }
        if (isNeeded) {
          await iptables('-I', chain, '1', ...rule(device));
        }
      }),
    close: (device) =>
      each(async (iptables, chain, lines) => {
        for (const _ of lines.filter((line) => isOurs(line, device))) {
          await iptables('-D', chain, ...rule(device));
        }
      }),
  };
}

const isOurs = (line: string, device: string): boolean => line.includes(`--comment "${firewallMark(device)}"`);

/** Undefined where the program writes to nftables, and so is not the one that made these tables. */
async function programOf(run: RunCommand, { program, alternative }: Family): Promise<string | undefined> {
  for (const name of [program, alternative]) {
    const version = await run(name, ['--version']).catch(() => undefined);
    if (version !== undefined && !version.includes('nf_tables')) {
      return name;
    }
  }
  return undefined;
}

function lineMayDrop(line: string): boolean {
  const target = /\s-[jg] (\S+)/.exec(line)?.[1];
  return target !== undefined && mayDrop(target);
}
