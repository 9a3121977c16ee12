/**
 * The connector's real outbound half over tunnels of HTTP/2, without a cluster, as a program of its own inside another
 * network namespace: `node test/support/outbound-program.ts '<OutboundOptions as JSON>'`. Prints one line of JSON when
 * it is ready, one `OutboundState` for each line that it reads, and ends with its standard input.
 *
 * Every address answers alike; the port says how: see `answerOf`.
 */
import { createInterface } from 'node:readline';
import { silentLogger, systemClock } from '../../src/base/index.ts';
import { DaemonLink } from '../../src/connector/daemon-link/link.ts';
import { Outbound } from '../../src/connector/outbound/outbound.ts';
import { type DaemonStatus, daemonSocketPaths } from '../../src/protocol/index.ts';
import { addressRecord, type FakeNetwork, fakeNetwork } from './fake-connector.ts';
import { type Answer, openFakeTunnels } from './fake-tunnels.ts';
import { serveHttp } from './tiny-http.ts';

export interface OutboundOptions {
  readonly runtimeDirectory: string;
  readonly network?: FakeNetwork;
  /** By name with its trailing dot. NXDOMAIN for any other. */
  readonly names?: Readonly<Record<string, readonly string[]>>;
}

export interface OutboundState {
  /** Tunnels at the far end that are not over yet. */
  readonly tunnels: number;
  readonly dials: number;
  /** Sockets of this process, whatever they are for. */
  readonly sockets: number;
  readonly peakMegabytes: number;
  readonly daemon: DaemonStatus;
}

export const ports = { http: 80, refused: 81, unreachable: 82, silent: 83, echo: 7, endsFirst: 8, discard: 9 } as const;

function answerOf(port: number): Answer {
  switch (port) {
    case ports.http:
      return { kind: 'program', onSocket: serveHttp };
    case ports.refused:
    case ports.discard:
      return { kind: 'fail', result: 'refused' };
    case ports.unreachable:
      return { kind: 'fail', result: 'unreachable' };
    case ports.silent:
      return { kind: 'silent' };
    case ports.endsFirst:
      return { kind: 'echo', endsFirst: true };
    default:
      return { kind: 'echo' };
  }
}

async function main({ runtimeDirectory, network, names = {} }: OutboundOptions): Promise<void> {
  const far = await openFakeTunnels(({ id }) => answerOf(id.destinationPort));
  const daemon = await DaemonLink.open(daemonSocketPaths(0, runtimeDirectory), systemClock);
  const { address4, address6 } = await daemon.apply(fakeNetwork(network));
  const outbound = new Outbound({
    ...far.deps,
    daemon,
    log: silentLogger,
    toReal: (ip) => ip,
    lookup: async (name, qtype) => {
      const found = names[name];
      const records = (found ?? []).flatMap((address) => addressRecord(name, qtype, address) ?? []);
      return { rcode: found ? 0 : 3, records: Buffer.concat(records) };
    },
  });
  await daemon.listen({
    ...(address4 === undefined ? {} : { port4: await outbound.listen(address4) }),
    ...(address6 === undefined ? {} : { port6: await outbound.listen(address6) }),
  });
  process.stdout.write(`${JSON.stringify({ address4, address6 })}\n`);
  const input = createInterface({ input: process.stdin });
  input.on('line', () => {
    void daemon.status().then((status) => {
      const state: OutboundState = {
        tunnels: far.open,
        dials: far.asked.length,
        sockets: process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap').length,
        peakMegabytes: Math.round(process.resourceUsage().maxRSS / 1024),
        daemon: status,
      };
      process.stdout.write(`${JSON.stringify(state)}\n`);
    });
  });
  input.on('close', () => process.exit(0));
  daemon.onLinkClosed(() => process.exit(0));
}

if (process.argv[1] === import.meta.filename) {
  await main(JSON.parse(process.argv[2] ?? '') as OutboundOptions);
}
