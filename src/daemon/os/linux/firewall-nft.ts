import type { RunCommand } from '../command.ts';
import { type FirewallKind, firewallMark, isOpenable, mayDrop } from './firewall-rules.ts';

interface Chain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly type?: string;
  readonly hook?: string;
  readonly policy?: string;
}

interface Rule {
  readonly handle: number;
  readonly comment?: string;
  readonly expr?: readonly unknown[];
}

interface NftObject {
  readonly chain?: Chain;
  readonly rule?: Rule & { readonly family: string; readonly table: string; readonly chain: string };
}

/** firewalld owns its table: nobody else can write there. It has a door of its own. */
const ownedTable = 'firewalld';
const families = new Set(['ip', 'ip6', 'inet']);
/** Names come from the kernel and go back as arguments of nft's own language. */
const isPlainName = (name: string): boolean => /^[\w./-]+$/.test(name);

/**
 * nftables, and iptables where it writes to nftables: its chains are ordinary ones there, and it shows our rule as
 * one of its own. Chains are read one by one: a whole ruleset has megabytes on a machine that runs a cluster.
 */
export function createNftFirewall(run: RunCommand): FirewallKind {
  const rulesOf = async ({ family, table, name }: Chain): Promise<Rule[]> =>
    parse(await run('nft', ['-j', '-a', '-s', '-t', 'list', 'chain', family, table, name]))
      .map(({ rule }) => rule)
      .filter((rule) => rule !== undefined);

  const remove = async ({ family, table, name }: Chain, rules: readonly Rule[]): Promise<void> => {
    for (const { handle } of rules) {
      await run('nft', ['delete', 'rule', family, table, name, 'handle', String(handle)]);
    }
  };

  return {
    name: 'nftables',
    async open(device) {
      for (const chain of await baseChains(run)) {
        const rules = await rulesOf(chain);
        const isOurs = ({ comment }: Rule): boolean => comment === firewallMark(device);
        const first = rules.findIndex((rule) => !isOurs(rule) && ruleMayDrop(rule));
        const ours = rules.filter(isOurs);
        const isNeeded = isOpenable(chain.hook ?? '', chain.policy ?? 'accept', first >= 0);
        const inPlace = isNeeded ? ours.find((rule) => first < 0 || rules.indexOf(rule) < first) : undefined;
        if (isNeeded && !inPlace) {
          const { family, table, name } = chain;
          const rule = ['iifname', device, 'accept', 'comment', `"${firewallMark(device)}"`];
          await run('nft', ['insert', 'rule', family, table, name, ...rule]);
        }
        await remove(
          chain,
          ours.filter((rule) => rule !== inPlace),
        );
      }
    },
    async close(device) {
      for (const chain of await baseChains(run)) {
        const rules = await rulesOf(chain);
        await remove(
          chain,
          rules.filter(({ comment }) => comment === firewallMark(device)),
        );
      }
    },
  };
}

/** The chains through which a packet for this machine comes in. None where nft is missing. */
async function baseChains(run: RunCommand): Promise<Chain[]> {
  return parse(await run('nft', ['-j', 'list', 'chains']).catch(() => ''))
    .map(({ chain }) => chain)
    .filter((chain) => chain !== undefined)
    .filter(
      ({ family, table, name, type, hook }) =>
        families.has(family) &&
        table !== ownedTable &&
        type === 'filter' &&
        (hook === 'input' || hook === 'prerouting') &&
        isPlainName(table) &&
        isPlainName(name),
    );
}

function parse(text: string): readonly NftObject[] {
  try {
    return (JSON.parse(text) as { nftables?: NftObject[] }).nftables ?? [];
  } catch {
    return [];
  }
}

/** Also true for a jump: what the other chain holds may change without this one changing. */
function ruleMayDrop({ expr = [] }: Rule): boolean {
  return expr.some((statement) => {
    if (typeof statement !== 'object' || statement === null) {
      return false;
    }
    if ('xt' in statement) {
      const { type = 'target', name = '' } = (statement.xt ?? {}) as { type?: string; name?: string };
      return type === 'target' && mayDrop(name);
    }
    return ['drop', 'reject', 'jump', 'goto', 'vmap', 'queue'].some((verdict) => verdict in statement);
  });
}
