import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { type Clock, formatIp, type IpBytes, type Logger, withTimeout } from '../../base/index.ts';
import { commandFailed } from '../errors.ts';
import type { RunCommand } from './command.ts';

export interface RedirectPlan {
  /** The resolvers that programs of this machine ask. */
  readonly resolvers: readonly IpBytes[];
  /** Our DNS server on loopback. */
  readonly port: number;
  /** Our own questions to the resolvers leave from these ports, and are let through. */
  readonly sourcePorts: readonly number[];
}

/** Our tables carry the user's number: two users of a machine do not meet. */
export const tableName = (uid: number): string => `nearfield-${uid}`;
const startTimeoutMs = 3_000;

/**
 * Sends the machine's DNS questions to us by a table that belongs to a child process: `flags owner` makes the kernel
 * remove it when that child ends, and the child ends when our end of its input does, even after SIGKILL.
 */
export class DnsRedirect {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #table: string;
  #child: ChildProcessWithoutNullStreams | undefined;

  constructor(clock: Clock, log: Logger, uid: number) {
    this.#clock = clock;
    this.#log = log;
    this.#table = tableName(uid);
  }

  async apply(plan: RedirectPlan): Promise<void> {
    this.clear();
    const child = spawn('/usr/sbin/nft', ['-i'], { stdio: 'pipe', env: { PATH: '/usr/sbin:/usr/bin', LC_ALL: 'C' } });
    this.#child = child;
    let said = '';
    const listen = (chunk: Buffer): void => {
      said = (said + chunk.toString()).slice(-4_000);
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    child.stdin.on('error', () => undefined);
    child.on('error', (error) => this.#log.error('nft could not be started', { error }));
    child.stdin.write(`${script(this.#table, plan)}\nlist table inet ${this.#table}\n`);
    await withTimeout(this.#clock, startTimeoutMs, 'the DNS redirect', (signal) =>
      seen(child, () => said.includes(`redirect to :${plan.port}`), signal),
    ).catch(() => {
      this.clear();
      throw commandFailed('nft -i', said);
    });
  }

  clear(): void {
    this.#child?.stdin.end();
    this.#child?.kill('SIGTERM');
    this.#child = undefined;
  }
}

function seen(child: ChildProcessWithoutNullStreams, check: () => boolean, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      if (check()) {
        resolve();
      }
    };
    child.stdout.on('data', look);
    child.once('exit', () => reject(commandFailed('nft -i', 'it ended')));
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** Priority -105: before the distributions' own destination NAT. */
export function script(table: string, { resolvers, port, sourcePorts }: RedirectPlan): string {
  const own = `{ ${sourcePorts.join(', ')} }`;
  const rules = resolvers.flatMap((resolver) => {
    const family = resolver.length === 4 ? 'ip' : 'ip6';
    return ['udp', 'tcp'].map(
      (protocol) =>
        `add rule inet ${table} output ${family} daddr ${formatIp(resolver)} ${protocol} dport 53 ${protocol} sport != ${own} redirect to :${port}`,
    );
  });
  return [
    `add table inet ${table} { flags owner; }`,
    `add chain inet ${table} output { type nat hook output priority -105; }`,
    ...rules,
  ].join('\n');
}

/** What a killed daemon's child may have left for a moment. A table that has an owner removes itself. */
export async function removeStaleTables(run: RunCommand, uid: number): Promise<void> {
  const tables = await run('nft', ['list', 'tables']).catch(() => '');
  if (tables.includes(` ${tableName(uid)}\n`) || tables.endsWith(` ${tableName(uid)}`)) {
    await run('nft', ['delete', 'table', 'inet', tableName(uid)]).catch(() => undefined);
  }
}
