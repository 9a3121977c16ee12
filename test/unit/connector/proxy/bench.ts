import { connect, type Socket } from 'node:net';
import { encode } from 'dns-packet';
import { type Clock, formatIp, type IpBytes, parseIp, silentLogger, systemClock } from '../../../../src/base/index.ts';
import { ClusterDialer } from '../../../../src/connector/outbound/dial.ts';
import { TargetDialer } from '../../../../src/connector/proxy/target.ts';
import type { DesiredNetwork } from '../../../../src/protocol/index.ts';
import { type Answer, type FakeTunnels, openFakeTunnels } from '../../../support/fake-tunnels.ts';

export const ip = (text: string): IpBytes => parseIp(text) ?? new Uint8Array(4);

export const network: DesiredNetwork = {
  cluster: 'https://k',
  subnets: ['10.100.0.0/16', '192.168.189.0/24', 'fd00::/64'],
  neverProxy: ['10.100.0.1/32'],
  allowConflicting: [],
  virtualSubnets: [],
  dns: {
    clusterDomain: 'cluster.local',
    namespace: 'service-a-ns',
    routedDomains: ['service-a-ns', 'service-b-ns', 'svc'],
    includeSuffixes: ['.internal.example.com'],
    excludeSuffixes: ['.com', '.io'],
    excludes: ['forbidden'],
    mappings: [
      { name: 'db.example.com', aliasFor: 'service-b.service-b-ns' },
      { name: 'fixed.example.com', aliasFor: '10.100.7.7' },
      { name: 'loop.example.com', aliasFor: 'loop.example.com' },
    ],
    timeoutMs: 4_000,
  },
};

/** What the pretend cluster knows. `broken.service-a-ns` cannot be asked for. */
export const clusterNames: Readonly<Record<string, readonly string[]>> = {
  'service-a.': ['10.100.0.10'],
  'service-a.service-a-ns.': ['10.100.0.10'],
  'service-b.service-b-ns.': ['10.100.0.20'],
  'six.service-a-ns.': ['fd00::6'],
  'outside.service-a-ns.': ['127.0.0.1'],
};

/** And this machine. */
export const localNames: Readonly<Record<string, readonly string[]>> = {
  localhost: ['127.0.0.1'],
  'this-machine.example.org': ['127.0.0.1'],
  printer: ['127.0.0.1'],
  'private.example.org': ['10.100.0.30'],
};

export interface Bench {
  readonly tunnels: FakeTunnels;
  readonly targets: TargetDialer;
  /** Names that were asked in the cluster, with their type. */
  readonly lookups: readonly string[];
  close(): Promise<void>;
}

/** A target dialler over a pretend cluster in this process. */
export async function openBench(
  answer: () => Answer = () => ({ kind: 'echo' }),
  clock: Clock = systemClock,
): Promise<Bench> {
  const tunnels = await openFakeTunnels(answer, clock);
  const lookups: string[] = [];
  const cluster = new ClusterDialer(tunnels.deps);
  const targets = new TargetDialer({
    clock,
    cluster,
    network: () => network,
    lookup: async (name, qtype) => {
      lookups.push(`${name} ${qtype}`);
      if (name.startsWith('broken.')) {
        throw new Error('the manager is away');
      }
      const all = (clusterNames[name] ?? []).map(ip);
      const found = all.filter(({ length }) => (qtype === 1 ? length === 4 : length === 16));
      return { rcode: all.length > 0 ? 0 : 3, records: records(found) };
    },
    lookupHere: async (name) => (localNames[name] ?? []).map(ip),
  });
  return {
    tunnels,
    targets,
    lookups,
    async close() {
      cluster.dispose();
      await tunnels.close();
    },
  };
}

/** Uncompressed records, as the manager sends them. */
export function records(addresses: readonly IpBytes[]): Uint8Array {
  const parts = addresses.map((address) => {
    const type = address.length === 4 ? 'A' : 'AAAA';
    const answer = { type, name: 'x.example', ttl: 4, data: formatIp(address) } as const;
    // The answer section of a message without a question.
    return encode({ type: 'response', answers: [answer] }).subarray(12);
  });
  return Buffer.concat(parts);
}

/** A program that talks to a proxy: writes, and reads exactly what it waits for. */
export class Program {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #isEnded = false;
  #wake: () => void = () => undefined;
  /** The code of the error that ended it, e.g. `ECONNRESET`. */
  error: string | undefined;

  constructor(port: number) {
    this.socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    const end = (): void => {
      this.#isEnded = true;
      this.#wake();
    };
    this.socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      this.error = code;
    });
    this.socket.on('end', end);
    this.socket.on('close', end);
    this.socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
  }

  write(...bytes: readonly (number | string | Uint8Array)[]): void {
    this.socket.write(
      Buffer.concat(bytes.map((each) => (typeof each === 'number' ? Buffer.of(each) : Buffer.from(each)))),
    );
  }

  async read(count: number): Promise<Buffer> {
    await this.#until(() => this.#received.length >= count);
    const bytes = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(count);
    return bytes;
  }

  async readText(pattern: RegExp): Promise<string> {
    await this.#until(() => pattern.test(this.#received.toString()));
    const text = this.#received.toString();
    this.#received = Buffer.alloc(0);
    return text;
  }

  /** Everything until the other side hangs up. */
  async rest(): Promise<Buffer> {
    await this.#until(() => false);
    return this.#received;
  }

  async #until(isTrue: () => boolean): Promise<void> {
    while (!isTrue() && !this.#isEnded) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

export const log = silentLogger;
