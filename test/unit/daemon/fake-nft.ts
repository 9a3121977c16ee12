import { Emitter } from '../../../src/base/index.ts';
import type { NftSession, StartNft } from '../../../src/daemon/os/linux/nft-session.ts';

interface FakeTable {
  owner: NftSession | undefined;
  readonly chains: Map<string, { readonly priority: string; readonly rules: string[] }>;
}

/** A machine's nft tables, as far as our sessions go; prints itself. */
export class FakeNft {
  readonly #tables = new Map<string, FakeTable>();
  readonly #sessions = new Set<() => void>();
  /** Before Linux 5.12 tables have no owner. */
  hasOwners = true;
  /** Set where nft is not installed. */
  isMissing = false;
  started = 0;
  transactions = 0;

  readonly start: StartNft = () => {
    this.started++;
    const ended = new Emitter<void>();
    let isOver = false;
    const end = (): void => {
      if (!isOver) {
        isOver = true;
        for (const [name, { owner }] of this.#tables) {
          if (owner === session) {
            this.#tables.delete(name);
          }
        }
        this.#sessions.delete(end);
        ended.fire();
      }
    };
    const session: NftSession = {
      send: async (line, print, mark) => {
        if (isOver || this.isMissing) {
          end();
          throw new Error('spawn nft ENOENT');
        }
        this.transactions++;
        this.#transact(line, session);
        const table = print.split(' ').at(-1) ?? '';
        if (!this.print().includes(table) || !this.#raw(table).includes(mark)) {
          throw new Error(`no ${mark} in ${table}`);
        }
      },
      onSessionEnded: ended.event,
      close: async () => end(),
    };
    this.#sessions.add(end);
    return session;
  };

  /** Somebody kills the child. */
  kill(): void {
    for (const end of [...this.#sessions]) {
      end();
    }
  }

  print(): string {
    return [...this.#tables]
      .flatMap(([name, { owner, chains }]) => [
        `table inet ${name}${owner ? ', owned' : ''}`,
        ...[...chains].flatMap(([chain, { priority, rules }]) => [
          `  chain ${chain} at ${priority}`,
          ...rules.map((rule) => `    ${rule.replace(/ comment ".*"$/, '')}`),
        ]),
      ])
      .join('\n');
  }

  #raw(table: string): string {
    return [...(this.#tables.get(table)?.chains.values() ?? [])].flatMap(({ rules }) => rules).join('\n');
  }

  /** All or nothing, as the kernel does it: what fails is found before anything is changed. */
  #transact(line: string, session: NftSession): void {
    const commands = line.split(/; (?=add |flush )/);
    if (!this.hasOwners && commands.some((command) => command.includes('flags owner'))) {
      throw new Error('Error: Could not process rule: Operation not supported');
    }
    for (const command of commands) {
      const [verb = '', what = '', , table = '', chain = ''] = command.split(' ');
      const present = this.#tables.get(table);
      if (present?.owner && present.owner !== session) {
        throw new Error('Error: Could not process rule: Operation not permitted');
      }
      if (what === 'table') {
        const owner = command.includes('flags owner') ? session : undefined;
        this.#tables.set(table, present ?? { owner, chains: new Map() });
      } else if (what === 'chain' && verb === 'add') {
        present?.chains.set(chain, { priority: /priority (-?\d+)/.exec(command)?.[1] ?? '', rules: [] });
      } else if (verb === 'flush') {
        present?.chains.get(chain)?.rules.splice(0);
      } else {
        present?.chains.get(chain)?.rules.push(command.split(' ').slice(5).join(' '));
      }
    }
  }
}
