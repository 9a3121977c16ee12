import type { RunCommand } from '../command.ts';

interface Chain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
}

interface NftObject {
  readonly chain?: { family: string; table: string; name: string; hook?: string; policy?: string };
  readonly rule?: { family: string; table: string; chain: string; handle: number; comment?: string };
}

/** Our mark on the one rule that we put into chains of others. */
const mark = 'nearfield';

/**
 * The kernel finishes handshakes with the connector's listener, so an INPUT chain that drops by default would block
 * us, and an accept rule in a table of our own does not help: a later chain's drop is final. One rule for our own
 * device goes to the head of each such chain. It is marked, and found again by its mark.
 */
export async function openFirewall(run: RunCommand, device: string): Promise<void> {
  for (const { family, table, name } of dropping(await ruleset(run))) {
    await run('nft', [
      'insert',
      'rule',
      family,
      table,
      name,
      'iifname',
      device,
      'accept',
      'comment',
      `"${mark} ${device}"`,
    ]);
  }
}

/** Needs no memory. */
export async function closeFirewall(run: RunCommand, device: string): Promise<void> {
  for (const { rule } of await ruleset(run)) {
    if (rule?.comment === `${mark} ${device}`) {
      await run('nft', ['delete', 'rule', rule.family, rule.table, rule.chain, 'handle', String(rule.handle)]).catch(
        () => undefined,
      );
    }
  }
}

async function ruleset(run: RunCommand): Promise<readonly NftObject[]> {
  const text = await run('nft', ['-j', '-a', 'list', 'ruleset']).catch(() => '');
  try {
    return (JSON.parse(text) as { nftables?: NftObject[] }).nftables ?? [];
  } catch {
    return [];
  }
}

function dropping(objects: readonly NftObject[]): Chain[] {
  return objects
    .map(({ chain }) => chain)
    .filter((chain) => chain !== undefined)
    .filter(({ hook, policy }) => hook === 'input' && policy === 'drop');
}
