import { badRequest, resolverFailed } from '../../errors.ts';
import type { RunCommand } from '../command.ts';
import type { ResolverBackend, ResolverPlan } from '../contract.ts';

/** The only port that Windows asks: neither a rule nor an interface can name another. */
const port = 53;
/** On every rule of ours: by this and nothing else they are found again. */
export const nrptMark = (device: string): string => `nearfield ${device}`;

export interface NrptDeps {
  readonly run: RunCommand;
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
  #applied: { readonly text: string; readonly device: string } | undefined;

  constructor(deps: NrptDeps) {
    this.#deps = deps;
  }

  /** Errors: `daemon.resolver-failed`, `daemon.bad-request`. */
  async apply(plan: ResolverPlan): Promise<void> {
    const script = scriptOf(plan, this.#deps.address);
    if (plan.port !== port) {
      throw resolverFailed(`Windows asks resolvers on port ${port} only`);
    }
    if (this.#applied?.text === script) {
      return;
    }
    this.#applied = { text: script, device: plan.device };
    await runScript(this.#deps.run, script).catch((error: unknown) => {
      this.#applied = undefined;
      throw resolverFailed(error);
    });
  }

  async clear(): Promise<void> {
    if (this.#applied) {
      const { device } = this.#applied;
      this.#applied = undefined;
      await removeNrptRules(this.#deps.run, device);
    }
  }
}

/** Needs no memory: the rules bear our mark. What the device had is gone with it. */
export async function removeNrptRules(run: RunCommand, device: string): Promise<void> {
  await runScript(run, [removal(device), 'Clear-DnsClientCache'].join('\n'));
}

const removal = (device: string): string =>
  `Get-DnsClientNrptRule | Where-Object Comment -eq ${quote(nrptMark(device))} | Remove-DnsClientNrptRule -Force`;

/** One script for all: a PowerShell takes half a second to start. */
function scriptOf({ device, routedDomains, searchDomains }: ResolverPlan, address: string): string {
  const domains = [...new Set([...routedDomains, ...searchDomains])].map((domain) => domain.replace(/^\.|\.$/g, ''));
  // A name with a dot in front means all names below it; the domain itself is not one of those.
  const namespaces = domains.flatMap((domain) => [`.${domain}`, domain]).map(quote);
  const [search] = searchDomains;
  return [
    "$ErrorActionPreference = 'Stop'",
    removal(device),
    `Add-DnsClientNrptRule -Namespace ${namespaces.join(',')} -NameServers ${quote(address)} -Comment ${quote(nrptMark(device))}`,
    `Set-DnsClientServerAddress -InterfaceAlias ${quote(device)} -ServerAddresses ${quote(address)}`,
    // An interface has one suffix; our server looks in the connected namespace for names below the search device.
    ...(search === undefined
      ? []
      : [`Set-DnsClient -InterfaceAlias ${quote(device)} -ConnectionSpecificSuffix ${quote(search)}`]),
    'Clear-DnsClientCache',
  ].join('\n');
}

/** In single quotes PowerShell replaces nothing; what could end them is not let in. */
function quote(text: string): string {
  if (!/^[\w.: -]+$/.test(text)) {
    throw badRequest(`${text} is not a name`);
  }
  return `'${text}'`;
}

async function runScript(run: RunCommand, script: string): Promise<void> {
  await run('powershell.exe', ['-NoLogo', '-NoProfile', '-NonInteractive', '-Command', script]);
}
