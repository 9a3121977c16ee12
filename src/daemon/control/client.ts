import { connect } from 'node:net';
import { safeParse } from 'valibot';
import { createMessageConnection, StreamMessageReader, StreamMessageWriter } from 'vscode-jsonrpc/node';
import { type Clock, sleep, withTimeout } from '../../base/index.ts';
import { type DaemonStatus, daemonMethod, daemonStatusSchema } from '../../protocol/index.ts';
import { inUse, notAttached } from '../errors.ts';

const limitMs = 3_000;

const quitStepMs = 50;

/** What a running daemon says of itself; undefined when none answers at this socket. */
export async function askStatus(path: string, clock: Clock): Promise<DaemonStatus | undefined> {
  const answer = await ask(path, clock, daemonMethod.status).catch(() => undefined);
  const parsed = safeParse(daemonStatusSchema, answer);
  return parsed.success ? parsed.output : undefined;
}

/** Asks a daemon to end, and waits for it. Errors: `daemon.in-use`. */
export async function askQuit(path: string, clock: Clock): Promise<void> {
  await ask(path, clock, daemonMethod.quit).catch(() => {
    throw inUse();
  });
  await withTimeout(clock, limitMs, 'the end of the daemon', async (signal) => {
    while (!signal.aborted && (await askStatus(path, clock))) {
      await sleep(clock, quitStepMs, signal);
    }
  });
}

function ask(path: string, clock: Clock, method: string): Promise<unknown> {
  const socket = connect(path);
  return withTimeout(
    clock,
    limitMs,
    'the daemon',
    () =>
      new Promise<unknown>((resolve, reject) => {
        socket.on('error', reject);
        socket.once('connect', () => {
          const rpc = createMessageConnection(new StreamMessageReader(socket), new StreamMessageWriter(socket));
          rpc.onError(([error]) => reject(error));
          rpc.onClose(() => reject(notAttached()));
          rpc.listen();
          rpc.sendRequest(method, {}).then(resolve, reject);
        });
      }),
  ).finally(() => socket.destroy());
}

/** A few lines for a person. */
export function describeStatus(status: DaemonStatus): string {
  const { version, pid, uptimeSeconds, clients, device, subnets, flows, drops, rssBytes, resolver, dns, service } =
    status;
  const dropped = Object.entries(drops).map(([reason, count]) => `${reason} ${count}`);
  return [
    `nearfield-daemon ${version}, process ${pid}, up ${Math.round(uptimeSeconds)} s, ${Math.round(rssBytes / 1e6)} MB${service ? ', a service' : ''}`,
    `windows: ${clients}`,
    `network: ${device ? `${device}, ${subnets.join(' ')}` : 'none'}`,
    ...(dns ? [`names: ${dns.localAddress} (${resolver ?? 'unknown'})`] : []),
    `flows: ${flows.tcp} TCP (${flows.halfOpen} half open, ${flows.short} in the kernel), ${flows.udp} UDP`,
    `dropped: ${dropped.join(', ') || 'nothing'}`,
  ].join('\n');
}
