import { backoffMs, type Clock, type Disposable, formatIp, type Logger, toError } from '../../../base/index.ts';
import { resolverFailed } from '../../errors.ts';
import type { RunCommand } from '../command.ts';
import type { ResolverBackend, ResolverPlan } from '../contract.ts';
import type { NftSession, StartNft } from './nft-session.ts';

/** Our tables carry the user's number: two users of a machine do not meet. */
export const tableName = (uid: number): string => `nearfield-${uid}`;

const restart = { firstMs: 500, factor: 2, maxMs: 30_000 };

export interface DnsRedirectDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly uid: number;
  readonly start: StartNft;
}

/**
 * Leads the questions that programs send to the machine's resolvers to us, by a table that belongs to a child process:
 * `flags owner` makes the kernel remove it when that child ends, and the child ends when our end of its input does,
 * even after SIGKILL.
 *
 * Questions that only pass through this machine are not led anywhere: containers with a network of their own ask from
 * there, and those of a cluster on this machine must get that cluster's answers.
 */
export class DnsRedirect implements ResolverBackend {
  readonly kind = 'nft-redirect';
  readonly #deps: DnsRedirectDeps;
  readonly #table: string;
  #session: NftSession | undefined;
  /** The rules in place. */
  #applied = '';
  #wanted: ResolverPlan | undefined;
  #generation = 0;
  #failures = 0;
  #restart: Disposable | undefined;
  #working: Promise<unknown> = Promise.resolve();

  constructor(deps: DnsRedirectDeps) {
    this.#deps = deps;
    this.#table = tableName(deps.uid);
  }

  /** Errors: `daemon.resolver-failed`. */
  apply(plan: ResolverPlan): Promise<void> {
    this.#wanted = plan;
    return this.#serially(() => this.#converge());
  }

  async clear(): Promise<void> {
    this.#wanted = undefined;
    await this.#serially(() => this.#end());
  }

  /** Plans come from the network, and restarts from a timer: one after the other. */
  #serially(work: () => Promise<void>): Promise<void> {
    const result = this.#working.then(work, work);
    this.#working = result.catch(() => undefined);
    return result;
  }

  async #converge(): Promise<void> {
    const plan = this.#wanted;
    if (!plan || plan.resolvers.length === 0) {
      await this.#end();
      return;
    }
    const rules = redirectRules(this.#table, this.#deps.uid, plan);
    if (this.#session && this.#applied === rules.join()) {
      return;
    }
    try {
      if (this.#session) {
        await this.#change(
          this.#session,
          ['own', 'others'].map((name) => `flush chain inet ${this.#table} ${name}`),
          rules,
        );
      } else {
        await this.#begin(rules);
      }
      this.#applied = rules.join();
      this.#failures = 0;
    } catch (error) {
      await this.#end();
      throw resolverFailed(error);
    }
  }

  async #begin(rules: readonly string[]): Promise<void> {
    // Before Linux 5.12 tables have no owner; then it is removed by whoever cleans up after us.
    for (const flags of ['{ flags owner; }', '']) {
      const session = this.#deps.start();
      this.#session = session;
      try {
        await this.#change(session, createTable(this.#table, flags), rules);
        session.onSessionEnded(() => this.#ended(session));
        return;
      } catch (error) {
        await this.#end();
        if (flags === '') {
          throw error;
        }
        this.#deps.log.debug('no table with an owner', { error });
      }
    }
  }

  /** In one transaction: no question is lost between the old rules and the new ones. */
  async #change(
    session: NftSession,
    first: readonly string[],
    [rule = '', ...rules]: readonly string[],
  ): Promise<void> {
    const mark = `comment "generation ${++this.#generation}"`;
    await session.send([...first, `${rule} ${mark}`, ...rules].join('; '), `list table inet ${this.#table}`, mark);
  }

  #ended(session: NftSession): void {
    if (this.#session === session) {
      this.#session = undefined;
      this.#again('nft ended');
    }
  }

  #again(why: string): void {
    this.#deps.log.warn('names are not led to us: that is made again', { why });
    this.#restart = this.#deps.clock.after(backoffMs(restart, this.#failures++), () => {
      void this.#serially(() => this.#converge()).catch((error: unknown) => this.#again(toError(error).message));
    });
  }

  async #end(): Promise<void> {
    void this.#restart?.dispose();
    this.#restart = undefined;
    const session = this.#session;
    this.#session = undefined;
    this.#applied = '';
    await session?.close();
  }
}

/** Priorities before those of destination NAT (-100): Docker's resolver is led to by rules there. */
function createTable(table: string, flags: string): string[] {
  const chain = (name: string, priority: number): string =>
    `add chain inet ${table} ${name} { type nat hook output priority ${priority}; }`;
  return [`add table inet ${table} ${flags}`.trim(), chain('own', -106), chain('others', -105)];
}

/**
 * A user's questions go to that user's daemon, those of root and of services to one of the daemons: with several users
 * connected, `own` of each comes before `others` of all.
 */
export function redirectRules(
  table: string,
  uid: number,
  { resolvers, port, sourcePorts }: Pick<ResolverPlan, 'resolvers' | 'port' | 'sourcePorts'>,
): string[] {
  const ours = `{ ${sourcePorts.join(', ')} }`;
  const addresses = {
    ip: resolvers.filter(({ length }) => length === 4),
    ip6: resolvers.filter(({ length }) => length !== 4),
  };
  return [`own meta skuid ${uid}`, 'others'].flatMap((start) =>
    Object.entries(addresses)
      .filter(([, some]) => some.length > 0)
      .flatMap(([family, some]) =>
        ['udp', 'tcp'].map((protocol) =>
          [
            `add rule inet ${table} ${start} ${family} daddr { ${some.map(formatIp).join(', ')} }`,
            `${protocol} dport 53 ${protocol} sport != ${ours} redirect to :${port}`,
          ].join(' '),
        ),
      ),
  );
}

/** What a killed daemon's child may have left for a moment. A table that has an owner removes itself. */
export async function removeStaleTables(run: RunCommand, uid: number): Promise<void> {
  const tables = await run('nft', ['list', 'tables']).catch(() => '');
  if (tables.split('\n').includes(`table inet ${tableName(uid)}`)) {
    await run('nft', ['delete', 'table', 'inet', tableName(uid)]).catch(() => undefined);
  }
}
