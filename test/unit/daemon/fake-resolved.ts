import type { RunCommand } from '../../../src/daemon/os/command.ts';

/** A systemd-resolved, as far as our calls go; prints its links. */
export class FakeResolved {
  readonly #links = new Map<string, Map<string, string>>();
  /** Calls that changed something. */
  readonly changes: string[] = [];
  /** Methods that it does not know. */
  readonly unknown = new Set<string>();
  /** How often it is asked for the sanity name before it has noticed the link. */
  deafFor = 0;

  print(): string {
    return [...this.#links]
      .filter(([, settings]) => settings.size > 0)
      .flatMap(([link, settings]) => [`link ${link}`, ...[...settings].map(([name, value]) => `  ${name} ${value}`)])
      .join('\n');
  }

  readonly run: RunCommand = async (file, args) => {
    if (file === 'ip') {
      return '[{"ifindex":7,"ifname":"nf0"}]';
    }
    const [service = '', , , method = '', , , ...values] = args.slice(args.indexOf('call') + 1);
    if (method === 'NameHasOwner') {
      return 'b true\n';
    }
    if (this.unknown.has(method)) {
      throw new Error(`Call failed: Unknown method ${method} on ${service}`);
    }
    if (method === 'ResolveHostname') {
      if (this.deafFor-- > 0) {
        throw new Error('Call failed: No appropriate name servers or networks for name found');
      }
      return 'a(iiay)st 1 7 2 4 127 0 0 1 "jhfweoitnkgyeta.tel2-search" 1048577\n';
    }
    this.changes.push(method);
    const [link = '', ...rest] = values;
    if (method === 'RevertLink') {
      this.#links.delete(link);
    } else {
      const settings = this.#links.get(link) ?? new Map<string, string>();
      this.#links.set(link, settings.set(method.replace('SetLink', ''), rest.join(' ')));
    }
    return '';
  };
}
