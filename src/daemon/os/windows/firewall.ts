import type { Logger } from '../../../base/index.ts';
import type { RunCommand } from '../command.ts';
import type { FirewallBackend } from '../contract.ts';
import { ask } from './powershell.ts';

/**
 * The connector's listener gets connections that the system takes for ones from outside, and a network that it knows
 * nothing of is a public one: one rule lets in what comes by our adapter. It outlives the adapter, and is found by name.
 */
export class WindowsFirewall implements FirewallBackend {
  readonly #run: RunCommand;
  readonly #log: Logger;

  constructor(run: RunCommand, log: Logger) {
    this.#run = run;
    this.#log = log;
  }

  /** Never rejects: a firewall that others govern may let us in all the same. */
  async open(device: string): Promise<void> {
    const rule = `-Direction Inbound -Action Allow -InterfaceAlias ${quote(device)}`;
    try {
      await this.close(device);
      await ask(this.#run, `New-NetFirewallRule -Name ${ruleOf(device)} -DisplayName ${ruleOf(device)} ${rule}`);
    } catch (error) {
      this.#log.warn('the firewall may block the cluster: our rule could not be set', { error });
    }
  }

  async close(device: string): Promise<void> {
    // By its name: asking for one that is not there would be an error.
    const rules = `Get-NetFirewallRule | Where-Object Name -eq ${ruleOf(device)}`;
    await ask(this.#run, `${rules} | Remove-NetFirewallRule`);
  }
}

const ruleOf = (device: string): string => quote(`nearfield ${device}`);

/** A text of PowerShell in which nothing is expanded. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
