/**
 * The other end of a daemon, without a cluster: attaches, applies a network, listens on the device's own addresses,
 * answers dials and names by functions, and echoes what it accepts. As a program it does the same inside another
 * network namespace: `node test/support/fake-connector.ts '<ProgramOptions as JSON>'` prints one line of JSON when it
 * is ready, and ends with its standard input.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { pathToFileURL } from 'node:url';
import { formatIp, parseIp, systemClock } from '../../src/base/index.ts';
import { DaemonLink } from '../../src/connector/daemon-link/link.ts';
import {
  type AppliedNetwork,
  type DesiredDns,
  type DesiredNetwork,
  type DialFrame,
  type DialQuestion,
  type DialResult,
  daemonSocketPaths,
} from '../../src/protocol/index.ts';

/** What a dial is answered with; `silence` answers nothing at all. */
export type FakeAnswer = DialResult | 'silence';

export interface FakeLookup {
  readonly rcode: number;
  /** Uncompressed resource records, one after the other. */
  readonly records: Uint8Array;
}

export interface FakeNetwork extends Partial<Omit<DesiredNetwork, 'dns'>> {
  readonly dns?: Partial<DesiredDns>;
}

export interface FakeConnectorOptions {
  readonly uid: number;
  readonly runtimeDirectory: string;
  readonly network?: FakeNetwork;
  /** Answers `ok` unless told otherwise. */
  readonly dial?: (question: DialQuestion) => FakeAnswer | Promise<FakeAnswer>;
  /** Answers NXDOMAIN unless told otherwise. */
  readonly lookup?: (name: string, qtype: number) => FakeLookup | Promise<FakeLookup>;
  /** What is done with an accepted connection; echoes unless told otherwise. */
  readonly accept?: (socket: Socket) => void;
}

/** What the program takes instead of functions. */
export interface ProgramOptions {
  readonly uid: number;
  readonly runtimeDirectory: string;
  readonly network?: FakeNetwork;
  /** By destination, `address:port`; `ok` for any other. */
  readonly answers?: Readonly<Record<string, FakeAnswer>>;
  /** By name with its trailing dot: an IPv4 or IPv6 address. NXDOMAIN for any other. */
  readonly names?: Readonly<Record<string, string>>;
}

/** What the program says when it is ready. */
export interface ProgramReady {
  readonly applied: AppliedNetwork;
  readonly port4?: number;
  readonly port6?: number;
}

const nxdomain: FakeLookup = { rcode: 3, records: new Uint8Array(0) };
const recordTtlSeconds = 5;

/** The network that a test gets unless it says otherwise. */
export function fakeNetwork({ dns, ...rest }: FakeNetwork = {}): DesiredNetwork {
  return {
    cluster: 'fake',
    subnets: ['10.201.0.0/16'],
    neverProxy: [],
    allowConflicting: [],
    virtualSubnets: [],
    ...rest,
    dns: {
      clusterDomain: 'cluster.local',
      namespace: 'default',
      routedDomains: ['svc', 'default'],
      includeSuffixes: [],
      excludeSuffixes: ['.com', '.io', '.net', '.org', '.ru'],
      excludes: [],
      mappings: [],
      timeoutMs: 4_000,
      ...dns,
    },
  };
}

export class FakeConnector {
  readonly #options: FakeConnectorOptions;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #udp = new Set<number>();
  /** Every question so far. */
  readonly dials: DialQuestion[] = [];
  readonly lookups: string[] = [];
  readonly link: DaemonLink;
  applied: AppliedNetwork | undefined;
  port4: number | undefined;
  port6: number | undefined;

  private constructor(link: DaemonLink, options: FakeConnectorOptions) {
    this.link = link;
    this.#options = options;
    link.onFrameReceived((frame) => void this.#handle(frame));
  }

  /** Attaches only: the rest is `apply` and `listen`. */
  static async attach(options: FakeConnectorOptions): Promise<FakeConnector> {
    const sockets = daemonSocketPaths(options.uid, options.runtimeDirectory);
    return new FakeConnector(await DaemonLink.open(sockets, systemClock), options);
  }

  /** Attaches, applies the network and listens: local programs can connect. */
  static async open(options: FakeConnectorOptions): Promise<FakeConnector> {
    const connector = await FakeConnector.attach(options);
    try {
      await connector.apply(options.network);
      await connector.listen();
      return connector;
    } catch (error) {
      connector.close();
      throw error;
    }
  }

  async apply(network: FakeNetwork = {}): Promise<AppliedNetwork> {
    this.applied = await this.link.apply(fakeNetwork(network));
    return this.applied;
  }

  async listen(): Promise<void> {
    const { address4, address6 } = this.applied ?? {};
    this.port4 = address4 === undefined ? undefined : await this.#listen(address4);
    this.port6 = address6 === undefined ? undefined : await this.#listen(address6);
    await this.link.listen({
      ...(this.port4 === undefined ? {} : { port4: this.port4 }),
      ...(this.port6 === undefined ? {} : { port6: this.port6 }),
    });
  }

  close(): void {
    this.link.close();
    for (const server of this.#servers) {
      server.close();
    }
    for (const socket of this.#sockets) {
      socket.destroy();
    }
  }

  #listen(host: string): Promise<number> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => this.#sockets.delete(socket));
      (this.#options.accept ?? echo)(socket);
    });
    this.#servers.push(server);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port: 0, backlog: 4_096 }, () => {
        const bound = server.address();
        resolve(typeof bound === 'object' && bound ? bound.port : 0);
      });
    });
  }

  async #handle(frame: DialFrame): Promise<void> {
    const { dial = () => 'ok' as const, lookup = () => nxdomain } = this.#options;
    if (frame.type === 'dial') {
      this.dials.push(frame);
      if (frame.protocol === 'udp') {
        this.#udp.add(frame.id);
      }
      const result = await dial(frame);
      if (result !== 'silence') {
        this.link.send({ type: 'answer', id: frame.id, result });
      }
    } else if (frame.type === 'datagram' && this.#udp.has(frame.id)) {
      this.link.send({ type: 'datagram', id: frame.id, payload: Uint8Array.from(frame.payload) });
    } else if (frame.type === 'close') {
      this.#udp.delete(frame.id);
    } else if (frame.type === 'lookup') {
      this.lookups.push(frame.name);
      this.link.send({ type: 'lookup-answer', id: frame.id, ...(await lookup(frame.name, frame.qtype)) });
    }
  }
}

function echo(socket: Socket): void {
  socket.pipe(socket);
}

/** An A or AAAA record as a lookup answers it; undefined when the address is of the other family. */
export function addressRecord(name: string, qtype: number, address: string): Uint8Array | undefined {
  const bytes = parseIp(address);
  if (!bytes || qtype !== (bytes.length === 4 ? 1 : 28)) {
    return undefined;
  }
  const labels = name.split('.').filter(Boolean);
  const owner = Buffer.concat([
    ...labels.map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.of(0),
  ]);
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(qtype, 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(recordTtlSeconds, 4);
  fixed.writeUInt16BE(bytes.length, 8);
  return Buffer.concat([owner, fixed, bytes]);
}

async function main(options: ProgramOptions): Promise<void> {
  const { answers = {}, names = {}, ...rest } = options;
  const connector = await FakeConnector.open({
    ...rest,
    dial: ({ destination, destinationPort }) => answers[`${formatIp(destination)}:${destinationPort}`] ?? 'ok',
    lookup: (name, qtype) => {
      const address = names[name];
      return address === undefined
        ? nxdomain
        : { rcode: 0, records: addressRecord(name, qtype, address) ?? new Uint8Array(0) };
    },
  });
  const { applied, port4, port6 } = connector;
  process.stdout.write(`${JSON.stringify({ applied, port4, port6 })}\n`);
  connector.link.onNetworkReapplied(({ subnets, translated }) => {
    process.stdout.write(
      `${JSON.stringify({ applied: subnets, translated: translated.map((each) => each.subnet) })}\n`,
    );
  });
  connector.link.onLinkClosed(() => process.exit(0));
  process.stdin.resume();
  process.stdin.on('end', () => process.exit(0));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(JSON.parse(process.argv[2] ?? '') as ProgramOptions);
}
