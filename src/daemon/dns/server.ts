import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import * as dnsPacket from 'dns-packet';
import { type Answer, decode, encode, type Packet } from 'dns-packet';
import { type Clock, type Disposable, type Logger, withTimeout } from '../../base/index.ts';
import type { DesiredDns } from '../../protocol/index.ts';
import { decideName, isClusterOnly } from './policy.ts';
import type { Upstream } from './upstream.ts';

export interface LookupResult {
  readonly rcode: number;
  /** Uncompressed records, one after the other. */
  readonly records: Uint8Array;
}

export interface DnsServerDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly upstream: Upstream;
}

/** One window's names, and how its cluster is asked. */
export interface DnsClient {
  readonly dns: DesiredDns;
  /** Rejects when nobody is there to ask. */
  readonly lookup: (name: string, qtype: number, signal: AbortSignal) => Promise<LookupResult>;
}

const rcode = { noError: 0, servfail: 2, nxdomain: 3, notImplemented: 4, refused: 5 } as const;
const supportedTypes: Record<string, number> = { A: 1, NS: 2, CNAME: 5, PTR: 12, MX: 15, TXT: 16, AAAA: 28, SRV: 33 };
/** An address family that a name may lack without being unknown. */
const maxCacheEntries = 10_000;
const negativeTtlMs = 2_000;
const maxPositiveTtlMs = 30_000;
const maxInFlight = 1_000;
const maxTcpClients = 100;
const maxListenTries = 20;
const tcpIdleMs = 10_000;
const plainUdpBytes = 512;
const maxUdpBytes = 1_232;

interface Resolution {
  readonly rcode: number;
  readonly answers: readonly Answer[];
}

interface CacheEntry extends Resolution {
  readonly untilMs: number;
}

/** The library exports the codec of single records; its types do not say so. `bytes` is what the last call read. */
interface AnswerDecoder {
  (bytes: Buffer, offset: number): Answer;
  readonly bytes: number;
}
const decodeAnswer = (dnsPacket as unknown as { answer: { decode: AnswerDecoder } }).answer.decode;

/** The machine's resolver while connected: cluster names from the cluster, all others as they were. */
export class DnsServer implements Disposable {
  readonly #deps: DnsServerDeps;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #cache = new Map<string, CacheEntry>();
  readonly #flying = new Map<string, Promise<Resolution>>();
  readonly #clients = new Set<Socket>();
  #windows: readonly DnsClient[] = [];

  constructor(deps: DnsServerDeps) {
    this.#deps = deps;
    this.#udp = createSocket('udp4');
    this.#udp.on('error', (error) => deps.log.warn('dns socket failed', { error }));
    this.#udp.on('message', (message, from) => {
      void this.#respond(message, 'udp').then((answer) => {
        if (answer) {
          this.#udp.send(answer, from.port, from.address, () => undefined);
        }
      });
    });
    this.#tcp = createServer((socket) => this.#acceptTcp(socket));
  }

  /** Listens on one loopback port, UDP and TCP; resolves with it. */
  async listen(): Promise<number> {
    for (let tries = 1; ; tries++) {
      // TCP first: its ports are the scarce ones.
      const port = await listenTcp(this.#tcp);
      try {
        await bindUdp(this.#udp, port);
        return port;
      } catch (error) {
        if (tries === maxListenTries) {
          throw error;
        }
        await new Promise((resolve) => this.#tcp.close(resolve));
      }
    }
  }

  /** The windows that are connected, the first one first: a name is asked where a window claims it. */
  configure(windows: readonly DnsClient[]): void {
    this.#windows = windows;
    this.#cache.clear();
  }

  dispose(): void {
    this.#udp.close();
    this.#tcp.close();
    for (const socket of this.#clients) {
      socket.destroy();
    }
  }

  /** The answer to a message, or undefined when it is none of ours to answer. Never throws. */
  async #respond(message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    let query: Packet;
    try {
      query = decode(message);
    } catch {
      return undefined;
    }
    const question = query.questions?.[0];
    if (query.type !== 'query' || !question || query.questions?.length !== 1) {
      return undefined;
    }
    const name = `${question.name.toLowerCase().replace(/\.$/, '')}.`;
    const window = this.#windows.find(({ dns }) => decideName(name, dns).kind !== 'upstream');
    const verdict = window ? decideName(name, window.dns) : ({ kind: 'upstream' } as const);
    if (verdict.kind === 'upstream' || !window) {
      return this.#deps.upstream
        .forward(message, transport)
        .catch(() => serialize(query, { rcode: rcode.servfail, answers: [] }, transport));
    }
    if (verdict.kind === 'refuse') {
      return serialize(query, { rcode: rcode.nxdomain, answers: [] }, transport);
    }
    const qtype = supportedTypes[question.type];
    if (!qtype) {
      return serialize(query, { rcode: rcode.notImplemented, answers: [] }, transport);
    }
    const found = await this.#resolve(verdict.name, qtype, window).catch(() => ({
      rcode: rcode.servfail,
      answers: [],
    }));
    if (found.rcode === rcode.nxdomain && !isClusterOnly(name, window.dns)) {
      // The local network may know it: `printer` is one label too.
      const upstream = await this.#deps.upstream.forward(message, transport).catch(() => undefined);
      if (upstream && (upstream[3] ?? 0) % 16 === rcode.noError) {
        return upstream;
      }
    }
    return serialize(query, found, transport);
  }

  #resolve(name: string, qtype: number, window: DnsClient): Promise<Resolution> {
    const key = `${qtype} ${name}`;
    const cached = this.#cache.get(key);
    const now = this.#deps.clock.nowMs();
    if (cached && cached.untilMs > now) {
      return Promise.resolve(cached);
    }
    const flying = this.#flying.get(key);
    if (flying) {
      return flying;
    }
    if (this.#flying.size >= maxInFlight) {
      return Promise.resolve({ rcode: rcode.servfail, answers: [] });
    }
    const asked = this.#ask(name, qtype, window).finally(() => this.#flying.delete(key));
    this.#flying.set(key, asked);
    void asked.then(
      (found) => this.#keep(key, found),
      () => undefined,
    );
    return asked;
  }

  async #ask(name: string, qtype: number, { dns, lookup }: DnsClient): Promise<Resolution> {
    const { rcode: code, records } = await withTimeout(this.#deps.clock, dns.timeoutMs, 'the name lookup', (signal) =>
      lookup(name, qtype, signal),
    );
    return { rcode: code, answers: parseRecords(records) };
  }

  #keep(key: string, found: Resolution): void {
    if (found.rcode !== rcode.noError && found.rcode !== rcode.nxdomain) {
      return;
    }
    if (this.#cache.size >= maxCacheEntries) {
      this.#cache.clear();
    }
    const ttls = found.answers.map((answer) => ('ttl' in answer ? (answer.ttl ?? 0) : 0) * 1000);
    const lifeMs = ttls.length === 0 ? negativeTtlMs : Math.min(maxPositiveTtlMs, ...ttls);
    this.#cache.set(key, { ...found, untilMs: this.#deps.clock.nowMs() + lifeMs });
  }

  #acceptTcp(socket: Socket): void {
    if (this.#clients.size >= maxTcpClients) {
      socket.destroy();
      return;
    }
    this.#clients.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#clients.delete(socket));
    socket.setTimeout(tcpIdleMs, () => socket.destroy());
    let received: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const length = received.readUInt16BE(0);
        const message = received.subarray(2, 2 + length);
        received = received.subarray(2 + length);
        void this.#respond(message, 'tcp').then((answer) => {
          if (answer && !socket.destroyed) {
            const prefix = Buffer.alloc(2);
            prefix.writeUInt16BE(answer.length);
            socket.write(Buffer.concat([prefix, answer]));
          }
        });
      }
    });
  }
}

/** Loopback only: bound to every address, answers would leave with the wrong source. */
function listenTcp(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

function bindUdp(socket: UdpSocket, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(port, '127.0.0.1', () => {
      socket.off('error', reject);
      resolve();
    });
  });
}

/** Records of the wire form; what cannot be read ends the list. */
export function parseRecords(records: Uint8Array): Answer[] {
  const bytes = Buffer.from(records);
  const answers: Answer[] = [];
  try {
    for (let at = 0; at < bytes.length; at += decodeAnswer.bytes) {
      answers.push(decodeAnswer(bytes, at));
    }
  } catch {
    return answers;
  }
  return answers;
}

/** An answer within what the asker can take: over UDP too much is cut, and says so. */
function serialize(query: Packet, { rcode: code, answers }: Resolution, transport: 'udp' | 'tcp'): Buffer {
  const option = query.additionals?.find((each) => each.type === 'OPT') as { udpPayloadSize?: number } | undefined;
  const limit =
    transport === 'tcp'
      ? 65_535
      : Math.min(maxUdpBytes, Math.max(plainUdpBytes, option?.udpPayloadSize ?? plainUdpBytes));
  const recursionDesired = (query.flags ?? 0) & 0x100;
  const base: Packet = {
    type: 'response',
    ...(query.id === undefined ? {} : { id: query.id }),
    // Recursion available, and the response code, which the library keeps in the flags.
    flags: recursionDesired | 0x80 | code,
    ...(query.questions ? { questions: query.questions } : {}),
    ...(option
      ? {
          additionals: [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: maxUdpBytes,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ],
        }
      : {}),
  };
  const whole = encode({ ...base, answers: [...answers] });
  return whole.length <= limit ? whole : encode({ ...base, flags: (base.flags ?? 0) | 0x200 });
}
