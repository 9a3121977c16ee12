import { connect } from 'node:net';
import { safeParse } from 'valibot';
import { createMessageConnection, StreamMessageReader, StreamMessageWriter } from 'vscode-jsonrpc/node';
import { type Clock, withTimeout } from '../../base/index.ts';
import { type DaemonStatus, daemonMethod, daemonStatusSchema } from '../../protocol/index.ts';

const limitMs = 3_000;

/** What a running daemon says of itself; undefined when none answers at this socket. */
export function askStatus(path: string, clock: Clock): Promise<DaemonStatus | undefined> {
  const socket = connect(path);
  return withTimeout(
    clock,
    limitMs,
    'the daemon',
    () =>
      new Promise<DaemonStatus | undefined>((resolve) => {
        socket.on('error', () => resolve(undefined));
        socket.once('connect', () => {
          const rpc = createMessageConnection(new StreamMessageReader(socket), new StreamMessageWriter(socket));
          rpc.onError(() => resolve(undefined));
          rpc.onClose(() => resolve(undefined));
          rpc.listen();
          rpc.sendRequest(daemonMethod.status, {}).then(
            (answer) => {
              const parsed = safeParse(daemonStatusSchema, answer);
              resolve(parsed.success ? parsed.output : undefined);
            },
            () => resolve(undefined),
          );
        });
      }),
  )
    .catch(() => undefined)
    .finally(() => socket.destroy());
}

/** A few lines for a person. */
export function describeStatus(status: DaemonStatus): string {
  const { version, pid, uptimeSeconds, clients, device, subnets, flows, drops, rssBytes, resolver, dns } = status;
  const dropped = Object.entries(drops).map(([reason, count]) => `${reason} ${count}`);
  return [
    `nearfield-daemon ${version}, process ${pid}, up ${Math.round(uptimeSeconds)} s, ${Math.round(rssBytes / 1e6)} MB`,
    `windows: ${clients}`,
    `network: ${device ? `${device}, ${subnets.join(' ')}` : 'none'}`,
    ...(dns ? [`names: ${dns.localAddress} (${resolver ?? 'unknown'})`] : []),
    `flows: ${flows.tcp} TCP (${flows.halfOpen} half open), ${flows.udp} UDP`,
    `dropped: ${dropped.join(', ') || 'nothing'}`,
  ].join('\n');
}
