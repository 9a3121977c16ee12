import { badRequest, resolverFailed } from '../../errors.ts';
import type { RunCommand } from '../command.ts';
import type { ResolverBackend, ResolverPlan } from '../contract.ts';

/** The only port that Windows asks: neither a rule nor an interface can name another. */
const port = 53;
/** On every rule of ours: by this and nothing else they are found again. */
export const nrptMark = (device: string): string => `nearfield ${device}`;

export interface NrptDeps {
  readonly run: RunCommand;
  /** The user's device: its name is in the mark. */
  readonly device: string;
  /** Where our server listens, on port 53: an address that no other resolver of the machine has. */
  readonly address: string;
}

/**
 * Windows has a table of rules, each of which names a domain and its resolvers (the Name Resolution Policy Table). Our
 * device gets our server and the search domain as well, which go with it.
 */
export class Nrpt implements ResolverBackend {
  readonly kind = 'nrpt';
  readonly #deps: NrptDeps;
  #applied = '';

  constructor(deps: NrptDeps) {
    this.#deps = deps;
  }

  /** Errors: `daemon.resolver-failed`, `daemon.bad-request`. */
  async apply(plan: ResolverPlan): Promise<void> {
    if (plan.port !== port) {
      throw resolverFailed(`Windows asks resolvers on port ${port} only`);
    }
    const script = scriptOf(plan, this.#deps);
    if (this.#applied === script) {
      return;
    }
    this.#applied = '';
    await this.#run(script).catch((error: unknown) => {
      throw resolverFailed(error);
    });
    this.#applied = script;
  }

  /** Needs no memory: the rules bear our mark. What the device had is gone with it. */
  async clear(): Promise<void> {
    this.#applied = '';
    await this.#run([removal(this.#deps.device), 'Clear-DnsClientCache'].join('; '));
  }

  async #run(script: string): Promise<void> {
    await this.#deps.run('powershell', [
      '-NoProfile',
      '-NonInteractive',
      '-NoLogo',
      '-Command',
      `${preamble}; ${script}`,
    ]);
  }
}

/** Modules are taken from the system's folder only: the search path begins with one that the user may write to. */
const preamble = ["$ErrorActionPreference = 'Stop'", '$env:PSModulePath = "$PSHOME\\Modules"'].join('; ');

const removal = (device: string): string =>
  `Get-DnsClientNrptRule | Where-Object Comment -eq ${quote(nrptMark(device))} | Remove-DnsClientNrptRule -Force`;

/** One script for all: a PowerShell takes half a second to start. */
function scriptOf(
  { routedDomains, searchDomains }: ResolverPlan,
  { address, device }: Pick<NrptDeps, 'address' | 'device'>,
): string {
  const domains = [...new Set([...routedDomains, ...searchDomains])].map((domain) => domain.replace(/^\.|\.$/g, ''));
  // A name with a dot in front means all names below it; the domain itself is not one of those.
  const namespaces = domains.flatMap((domain) => [`.${domain}`, domain]).map(quote);
  const [search] = searchDomains;
  return [
    removal(device),
    `Add-DnsClientNrptRule -Namespace ${namespaces.join(',')} -NameServers ${quote(address)} -Comment ${quote(nrptMark(device))}`,
    `Set-DnsClientServerAddress -InterfaceAlias ${quote(device)} -ServerAddresses ${quote(address)}`,
    // An interface has one suffix; our server looks in the connected namespace for names below the search device.
    ...(search === undefined
      ? []
      : [`Set-DnsClient -InterfaceAlias ${quote(device)} -ConnectionSpecificSuffix ${quote(search)}`]),
    'Clear-DnsClientCache',
  ].join('; ');
}

/** In single quotes PowerShell replaces nothing; what could end them is not let in. */
function quote(text: string): string {
  if (!/^[\w.: -]+$/.test(text)) {
    throw badRequest(`${text} is not a name`);
  }
  return `'${text}'`;
}
