import { badRequest } from '../../errors.ts';
import type { ResolverBackend, ResolverPlan } from '../contract.ts';
import type { FileSystem } from '../files.ts';

const folder = '/etc/resolver';
/** In front of the name of every file that we leave there: by this and nothing else they are found again. */
export const resolverFilePrefix = 'nearfield.';
const headline = '# Written by Nearfield while it is connected, and removed by it.';
/** File names have 255 bytes; the domain itself is in the file. */
const maxNameLength = 200;

/**
 * macOS reads one file per domain (man 5 resolver), each of which names a resolver and its port, and notices changes by
 * itself. Domains and lines as other clients of the system write them, so that scripts of users find what they look for.
 */
export class ResolverFiles implements ResolverBackend {
  readonly kind = 'resolver-files';
  readonly #files: FileSystem;
  readonly #prefix: string;

  constructor(files: FileSystem, prefix = resolverFilePrefix) {
    this.#files = files;
    this.#prefix = prefix;
  }

  /** Writes what differs, removes what is no longer wanted. Errors: `daemon.bad-request`. */
  async apply(plan: ResolverPlan): Promise<void> {
    const wanted = new Map(domainsOf(plan).map((domain) => [this.#nameOf(domain), textOf(domain, plan)]));
    for (const [name, text] of wanted) {
      if (this.#files.read(`${folder}/${name}`) !== text) {
        this.#files.write(`${folder}/${name}`, text);
      }
    }
    this.#removeAllBut(wanted);
  }

  /** Needs no memory. */
  async clear(): Promise<void> {
    this.#removeAllBut(new Map());
  }

  #removeAllBut(wanted: ReadonlyMap<string, string>): void {
    for (const name of this.#files.list(folder)) {
      if (name.startsWith(this.#prefix) && !wanted.has(name)) {
        this.#files.remove(`${folder}/${name}`);
      }
    }
  }

  #nameOf(domain: string): string {
    // It becomes a path.
    if (!/^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/i.test(domain)) {
      throw badRequest(`${domain} is not a domain`);
    }
    return this.#prefix + domain.slice(-maxNameLength);
  }
}

function domainsOf({ routedDomains, searchDomains }: ResolverPlan): string[] {
  return [...new Set([...routedDomains, ...searchDomains].map((domain) => domain.replace(/^\.|\.$/g, '')))];
}

function textOf(domain: string, { port, searchDomains }: ResolverPlan): string {
  const search = searchDomains.includes(domain) ? [`search ${domain}`] : [];
  return [headline, '', `port ${port}`, `domain ${domain}`, 'nameserver 127.0.0.1', ...search, ''].join('\n');
}
