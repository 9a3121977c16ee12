import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { type Clock, formatIp, type Logger, withTimeout } from '../../../base/index.ts';
import { commandFailed } from '../../errors.ts';
import type { RunCommand } from '../command.ts';
import type { ResolverBackend, ResolverPlan } from '../contract.ts';

/** Our tables carry the user's number: two users of a machine do not meet. */
export const tableName = (uid: number): string => `nearfield-${uid}`;
const startTimeoutMs = 3_000;

/**
 * Sends the machine's DNS questions to us by a table that belongs to a child process: `flags owner` makes the kernel
 * remove it when that child ends, and the child ends when our end of its input does, even after SIGKILL.
 */
export class DnsRedirect implements ResolverBackend {
  readonly kind = 'nft-redirect';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #table: string;
  #child: ChildProcessWithoutNullStreams | undefined;
  #applied = '';

  constructor(clock: Clock, log: Logger, uid: number) {
    this.#clock = clock;
    this.#log = log;
    this.#table = tableName(uid);
  }

  async apply(plan: ResolverPlan): Promise<void> {
    const wanted = script(this.#table, plan);
    if (this.#child?.exitCode === null && this.#applied === wanted) {
      return;
    }
    this.#end();
    this.#applied = wanted;
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
    child.stdin.write(`${wanted}\nlist table inet ${this.#table}\n`);
    await withTimeout(this.#clock, startTimeoutMs, 'the DNS redirect', (signal) =>
      seen(child, () => said.includes(`redirect to :${plan.port}`), signal),
    ).catch(() => {
      this.#end();
      throw commandFailed('nft -i', said);
    });
  }

  async clear(): Promise<void> {
    this.#end();
  }

  #end(): void {
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
export function script(
  table: string,
  { resolvers, port, sourcePorts }: Pick<ResolverPlan, 'resolvers' | 'port' | 'sourcePorts'>,
): string {
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
