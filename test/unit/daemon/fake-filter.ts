import type { RunCommand } from '../../../src/daemon/os/command.ts';

interface FakeRule {
  readonly handle: number;
  readonly comment?: string;
  readonly expr: readonly unknown[];
  readonly text: string;
}

interface FakeChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: string;
  readonly policy: string;
  readonly rules: FakeRule[];
}

/** A machine's filters, as far as our commands go; prints itself. */
export class FakeFilter {
  readonly #chains: FakeChain[] = [];
  /** Chains of iptables before nftables, by `<program> <table> <chain>`, as lines of `-S`. */
  readonly legacy = new Map<string, string[]>();
  /** firewalld's zones by interface; undefined where it does not run. */
  zones: Map<string, string> | undefined;
  /** Programs that are not installed. */
  readonly missing = new Set<string>();
  /** Commands that changed something. */
  readonly changes: string[] = [];
  #handle = 10;

  /** Rules are single words of nft's JSON (`drop`, `jump`, `accept`), or whole statements. */
  chain(path: string, options: { hook?: string; policy?: string; rules?: readonly unknown[] } = {}): void {
    const [family = '', table = '', name = ''] = path.split(' ');
    const { hook = 'input', policy = 'accept', rules = [] } = options;
    this.#chains.push({
      ...{ family, table, name, hook, policy },
      rules: rules.map((rule) => ({
        handle: this.#handle++,
        expr: [typeof rule === 'string' ? { [rule]: null } : rule],
        text: typeof rule === 'string' ? rule : JSON.stringify(rule),
      })),
    });
  }

  /** What a reload does to a chain: its rules are gone, then back, ours are not. */
  reload(): void {
    for (const { rules } of this.#chains) {
      rules.splice(0, rules.length, ...rules.filter(({ comment }) => comment === undefined));
    }
  }

  /** Somebody puts a rule in front of all others. */
  prepend(path: string, rule: string): void {
    this.#find(path.split(' ')).rules.unshift({ handle: this.#handle++, expr: [{ [rule]: null }], text: rule });
  }

  print(): string {
    const nft = this.#chains.map(({ family, table, name, policy, rules }) =>
      [`${family} ${table} ${name} (${policy})`, ...rules.map(({ text }) => `  ${text}`)].join('\n'),
    );
    const legacy = [...this.legacy].map(([key, lines]) => [key, ...lines.map((line) => `  ${line}`)].join('\n'));
    const zones = [...(this.zones ?? [])].map(([device, zone]) => `${device} in zone ${zone}`);
    return [...nft, ...legacy, ...zones].join('\n');
  }

  readonly read = (path: string): string | undefined => {
    const tablesOf = (program: string): string => {
      const keys = [...this.legacy.keys()].filter((key) => key.startsWith(`${program} `));
      return [...new Set(keys.map((key) => `${key.split(' ')[1]}\n`))].join('');
    };
    switch (path) {
      case '/proc/net/ip_tables_names':
        return tablesOf('iptables-legacy');
      case '/proc/net/ip6_tables_names':
        return tablesOf('ip6tables-legacy');
      case '/usr/sbin/firewalld':
        return this.zones ? '#!/usr/bin/python3' : undefined;
      default:
        return undefined;
    }
  };

  readonly run: RunCommand = async (file, args) => {
    if (this.missing.has(file)) {
      throw new Error(`spawn ${file} ENOENT`);
    }
    if (file === 'nft') {
      return this.#nft(args.filter((each) => !each.startsWith('-')));
    }
    return file === 'busctl' ? this.#bus(args) : this.#iptables(file, args);
  };

  #nft([verb = '', what, ...rest]: readonly string[]): string {
    if (verb === 'list' && what === 'chains') {
      const chains = this.#chains.map(({ family, table, name, hook, policy }) => ({
        chain: { family, table, name, type: 'filter', hook, policy },
      }));
      return JSON.stringify({ nftables: [{ metainfo: {} }, ...chains] });
    }
    const chain = this.#find(rest);
    if (verb === 'list') {
      return JSON.stringify({ nftables: [{ chain }, ...chain.rules.map((rule) => ({ rule }))] });
    }
    this.changes.push([verb, what, ...rest].join(' '));
    if (verb === 'insert') {
      const comment = /comment "(.*)"$/.exec(rest.join(' '))?.[1] ?? '';
      chain.rules.unshift({ handle: this.#handle++, comment, expr: [{ accept: null }], text: rest.slice(3).join(' ') });
    } else {
      const at = chain.rules.findIndex(({ handle }) => String(handle) === rest.at(-1));
      chain.rules.splice(at, 1);
    }
    return '';
  }

  #find([family, table, name]: readonly string[]): FakeChain {
    const found = this.#chains.find((chain) => chain.family === family && chain.table === table && chain.name === name);
    if (!found) {
      throw new Error(`no chain ${family} ${table} ${name}`);
    }
    return found;
  }

  #iptables(program: string, args: readonly string[]): string {
    if (args[0] === '--version') {
      return program.includes('legacy') ? 'iptables v1.8.9 (legacy)' : 'iptables v1.8.9 (nf_tables)';
    }
    const [table, verb, chain] = args.slice(args.indexOf('-t') + 1);
    const lines = this.legacy.get(`${program} ${table} ${chain}`);
    if (!lines) {
      return `-P ${chain} ACCEPT`;
    }
    if (verb === '-S') {
      return lines.join('\n');
    }
    this.changes.push([program, ...args].join(' '));
    const spec = args.slice(args.indexOf('-i')).map((each) => (each.includes(' ') ? `"${each}"` : each));
    const line = `-A ${chain} ${spec.join(' ')}`;
    if (verb === '-I') {
      lines.splice(1, 0, line);
    } else {
      lines.splice(lines.indexOf(line), 1);
    }
    return '';
  }

  #bus(args: readonly string[]): string {
    const [, , , method = '', ...rest] = args.slice(args.indexOf('call') + 1).filter((each) => each !== '--');
    const [, ...values] = rest;
    if (method === 'NameHasOwner') {
      return `b ${this.zones !== undefined}\n`;
    }
    if (method === 'getZoneOfInterface') {
      return `s "${this.zones?.get(values[0] ?? '') ?? ''}"\n`;
    }
    this.changes.push([method, ...values].join(' '));
    const [zone = '', device = ''] = values;
    if (method === 'removeInterface') {
      this.zones?.delete(device);
    } else {
      this.zones?.set(device, zone);
    }
    return '';
  }
}
