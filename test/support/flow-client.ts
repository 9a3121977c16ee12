/**
 * Many flows of one program: `node test/support/flow-client.ts '<FlowsWanted as JSON>'` prints one `FlowsSeen`.
 * TCP: opens all, and only when all are open each sends bytes of its own, ends, and reads to the end. UDP: each sends
 * one datagram and waits for it to come back.
 */
import { createSocket } from 'node:dgram';
import { connect, type Socket } from 'node:net';

export interface FlowsWanted {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  readonly count: number;
  /** The first one's source port; the next has the next. Without it the system chooses. */
  readonly firstLocalPort?: number;
  /** How many connections may be under way at a time; 500 unless said. */
  readonly atOnce?: number;
  /** Waits for the far end's bytes and end before it ends itself. */
  readonly isEndedByPeer?: boolean;
  /** Resets each connection once all are open. */
  readonly isAborted?: boolean;
  /** Of each flow's message; 64 unless said. */
  readonly bytes?: number;
  readonly timeoutMs: number;
}

export interface FlowsSeen {
  readonly opened: number;
  /** Got exactly what they sent, and then an end. */
  readonly right: number;
  /** How often which error was seen. */
  readonly errors: Readonly<Record<string, number>>;
  readonly openMs: number;
  readonly totalMs: number;
}

const bytesOf = ({ bytes = 64 }: FlowsWanted, index: number): Buffer => Buffer.alloc(bytes, `flow ${index} `);

async function openAll(wanted: FlowsWanted, fail: (code: string) => void): Promise<(Socket | undefined)[]> {
  const { address, port, count, firstLocalPort, atOnce = 500 } = wanted;
  const sockets: (Socket | undefined)[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      const local = firstLocalPort === undefined ? {} : { localPort: firstLocalPort + index };
      const socket = connect({ host: address, port, allowHalfOpen: true, ...local });
      const code = await new Promise<string | undefined>((resolve) => {
        socket.once('connect', () => resolve(undefined));
        socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      });
      if (code !== undefined) {
        fail(code);
      }
      sockets[index] = code === undefined ? socket : undefined;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return sockets;
}

function talk(socket: Socket, wanted: FlowsWanted, index: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const sent = bytesOf(wanted, index);
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('end', () => {
      socket.end();
      resolve(Buffer.concat(chunks).equals(sent) ? undefined : 'other bytes');
    });
    if (wanted.isAborted) {
      socket.resetAndDestroy();
      resolve(undefined);
    } else if (wanted.isEndedByPeer) {
      socket.write(sent);
    } else {
      socket.end(sent);
    }
  });
}

function datagram(wanted: FlowsWanted, index: number): Promise<string | undefined> {
  const { address, port } = wanted;
  return new Promise((resolve) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    const sent = bytesOf(wanted, index);
    const end = (result?: string): void => {
      socket.close();
      resolve(result);
    };
    socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
    socket.on('message', (got) => end(got.equals(sent) ? undefined : 'other bytes'));
    socket.connect(port, address, () => socket.send(sent));
  });
}

async function main(wanted: FlowsWanted): Promise<void> {
  const { protocol, count, timeoutMs } = wanted;
  const errors: Record<string, number> = {};
  let opened = 0;
  let right = 0;
  let openMs = 0;
  const started = performance.now();
  const fail = (code: string): void => {
    errors[code] = (errors[code] ?? 0) + 1;
  };
  const note = (result: string | undefined): void => {
    if (result === undefined) {
      right++;
    } else {
      fail(result);
    }
  };
  const report = (): void => {
    const totalMs = Math.round(performance.now() - started);
    process.stdout.write(`${JSON.stringify({ opened, right, errors, openMs, totalMs } satisfies FlowsSeen)}\n`, () =>
      process.exit(0),
    );
  };
  setTimeout(report, timeoutMs);
  if (protocol === 'udp') {
    opened = count;
    await Promise.all(Array.from({ length: count }, async (_, index) => note(await datagram(wanted, index))));
  } else {
    const sockets = await openAll(wanted, fail);
    openMs = Math.round(performance.now() - started);
    opened = sockets.filter(Boolean).length;
    await Promise.all(sockets.map(async (socket, index) => socket && note(await talk(socket, wanted, index))));
  }
  report();
}

await main(JSON.parse(process.argv[2] ?? '') as FlowsWanted);
