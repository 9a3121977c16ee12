import { connect, createServer, type Socket } from 'node:net';

export interface DelayingRelay {
  readonly port: number;
  close(): void;
}

/** What may be on its way in one direction: more than any window of ours, so that only time holds bytes back. */
const maxOnTheWay = 128 * 1024 * 1024;

/** A line that is longer: a TCP relay on an address of this machine, through which each byte takes `oneWayMs`. */
export async function openDelayingRelay(
  { host, port, at }: { readonly host: string; readonly port: number; readonly at: string },
  oneWayMs: number,
): Promise<DelayingRelay> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    const far = connect({ host, port, allowHalfOpen: true, noDelay: true });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      let onTheWay = 0;
      sockets.add(from);
      from.on('data', (chunk) => {
        onTheWay += chunk.length;
        if (onTheWay > maxOnTheWay) {
          from.pause();
        }
        setTimeout(() => {
          onTheWay -= chunk.length;
          to.write(chunk);
          from.resume();
        }, oneWayMs);
      });
      from.on('end', () => setTimeout(() => to.end(), oneWayMs));
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        setTimeout(() => to.destroy(), oneWayMs);
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, at, () => resolve()));
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : 0,
    close() {
      server.close();
      for (const socket of sockets) {
        socket.destroy();
      }
    },
  };
}
