/** Everything of a machine that a daemon may change, as one text: the difference of two is what was left behind. */
import type { Machine } from './machine.ts';

const commands: readonly (readonly [title: string, command: readonly string[]])[] = [
  ['links', ['ip', '-o', 'link']],
  ['addresses', ['ip', '-o', 'address']],
  ['routes', ['ip', 'route', 'show', 'table', 'all']],
  ['routes, IPv6', ['ip', '-6', 'route', 'show', 'table', 'all']],
  ['rules', ['ip', 'rule']],
  ['rules, IPv6', ['ip', '-6', 'rule']],
  ['nft', ['nft', 'list', 'ruleset']],
  ['iptables', ['iptables-legacy-save']],
  ['resolv.conf', ['cat', '/etc/resolv.conf']],
  ['resolver files', ['sh', '-c', 'ls -l /etc/resolver 2>/dev/null || true']],
  ['listeners', ['sh', '-c', 'ss -Hlnt | awk \'{print $4}\'; ss -Hlnup | grep -v "node\\|MainThread" || true']],
  ['unix sockets', ['sh', '-c', "ss -Hlx | awk '{print $5}' | grep nearfield || true"]],
  ['programs', ['sh', '-c', 'ps -eo args | grep -E "nearfield|[n]ft -i" | grep -v grep || true']],
];

/** Counters and lifetimes move by themselves. */
const moving = [/ (packets|bytes) \d+/g, /\[\d+:\d+\]/g, /valid_lft \S+|preferred_lft \S+|expires \S+/g, /^#.*$/gm];

export async function stateOf(machine: Machine, folder: string): Promise<string> {
  const parts: string[] = [];
  for (const [title, command] of [...commands, ['files', ['find', folder, '-mindepth', '1']] as const]) {
    const text = await machine.run(command).catch((error: Error) => `cannot be read: ${error.message}`);
    const still = moving.reduce((all, pattern) => all.replaceAll(pattern, ''), text);
    parts.push(`== ${title}\n${still.trimEnd()}`);
  }
  return parts.join('\n');
}
