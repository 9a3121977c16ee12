import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import * as dnsPacket from 'dns-packet';
import { type Answer, type DecodedPacket, decode, encode, type Packet, streamDecode, streamEncode } from 'dns-packet';
import { type Clock, concatBytes, withTimeout } from '../../base/index.ts';

export interface ResolvedRecords {
  /** 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN. */
  readonly rcode: number;
  readonly answers: readonly Answer[];
}

const queryTimeoutMs = 2_000;
const attempts = 2;
const rcodes: Record<string, number> = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 };
/** Given to the client's side; short, because pods come and go. */
const answerTtlSeconds = 4;
/** Wire numbers of the types that are looked up. */
export const recordTypes: Record<number, string> = {
  1: 'A',
  2: 'NS',
  5: 'CNAME',
  12: 'PTR',
  15: 'MX',
  16: 'TXT',
  28: 'AAAA',
  33: 'SRV',
};

export interface ClusterResolver {
  /** `name` ends with a dot; `namespace` completes short names. */
  lookup(name: string, qtype: number, namespace: string): Promise<ResolvedRecords>;
}

export interface ResolverOptions {
  readonly nameserver: string;
  readonly clusterDomain: string;
  readonly clock: Clock;
}

/** Resolves as a pod of the client's namespace would, through the cluster's own DNS server. */
export function createResolver({ nameserver, clusterDomain, clock }: ResolverOptions): ClusterResolver {
  return {
    async lookup(name, qtype, namespace) {
      const type = recordTypes[qtype];
      if (!type) {
        return { rcode: 4, answers: [] };
      }
      if (!isName(name)) {
        return { rcode: 3, answers: [] };
      }
      // All at once, and the first in order wins: a pod's resolver would ask one after the other, four round trips long.
      const asked = candidates(name, namespace, clusterDomain).map((candidate) => ({
        candidate,
        found: query(clock, nameserver, candidate, type),
      }));
      let last: ResolvedRecords = { rcode: 3, answers: [] };
      for (const { candidate, found } of asked) {
        last = await found;
        if (last.rcode !== 3) {
          return renamed(last, candidate, name);
        }
      }
      return last;
    },
  };
}

/**
 * Where a name may lie, in the order of a pod's search path. Names of the cluster's domain are meant literally; so
 * are names with five labels and more, and the longer ones are tried in their namespace first.
 */
export function candidates(name: string, namespace: string, clusterDomain: string): string[] {
  const plain = name.replace(/\.$/, '');
  if (plain === clusterDomain || plain.endsWith(`.${clusterDomain}`)) {
    return [plain];
  }
  const labels = plain.split('.');
  const searched = [
    `${plain}.${namespace}.svc.${clusterDomain}`,
    `${plain}.svc.${clusterDomain}`,
    `${plain}.${clusterDomain}`,
  ];
  if (labels.length === 1) {
    return searched.slice(0, 1);
  }
  return labels.length <= 4 ? [...searched, plain] : [plain];
}

/** What the wire of DNS can carry: the codec would write anything else into a malformed question. */
export function isName(name: string): boolean {
  const labels = name.replace(/\.$/, '').split('.');
  return Buffer.byteLength(name) <= 254 && labels.every((label) => label !== '' && Buffer.byteLength(label) <= 63);
}

/** The answer is about the name that was asked for. */
function renamed(records: ResolvedRecords, from: string, to: string): ResolvedRecords {
  const target = to.replace(/\.$/, '');
  return {
    rcode: records.rcode,
    answers: records.answers.map((each) => ({
      ...each,
      name: each.name.toLowerCase() === from.toLowerCase() ? target : each.name,
      ttl: answerTtlSeconds,
    })) as Answer[],
  };
}

/** The library exports the codec of single records; its types do not say so. */
const answerCodec = (dnsPacket as unknown as { answer: { encode(answer: Answer): Uint8Array } }).answer;

/** Records one after the other, uncompressed, without a header: the form of the wire. */
export function serializeRecords(answers: readonly Answer[]): Uint8Array {
  return concatBytes(answers.map((each) => answerCodec.encode(each)));
}

async function query(clock: Clock, nameserver: string, name: string, type: string): Promise<ResolvedRecords> {
  const packet: Packet = {
    type: 'query',
    id: Math.floor(Math.random() * 65_536),
    flags: 0x100,
    questions: [{ name, type: type as 'A', class: 'IN' }],
  };
  for (let attempt = 0; attempt < attempts; attempt++) {
    try {
      let answer = await withTimeout(clock, queryTimeoutMs, 'the DNS query', (signal) =>
        overUdp(nameserver, packet, signal),
      );
      if (answer.flag_tc) {
        answer = await withTimeout(clock, queryTimeoutMs, 'the DNS query', (signal) =>
          overTcp(nameserver, packet, signal),
        );
      }
      const { rcode } = answer as unknown as { rcode: string };
      return { rcode: rcodes[rcode] ?? 2, answers: answer.answers ?? [] };
    } catch {
      // Asked once more; then the server is said to have failed.
    }
  }
  return { rcode: 2, answers: [] };
}

function overUdp(nameserver: string, packet: Packet, signal: AbortSignal): Promise<DecodedPacket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(nameserver.includes(':') ? 'udp6' : 'udp4');
    const end = (): void => {
      signal.removeEventListener('abort', end);
      try {
        socket.close();
      } catch {
        // Closed already.
      }
    };
    signal.addEventListener('abort', end, { once: true });
    socket.on('error', (error) => {
      end();
      reject(error);
    });
    socket.on('message', (message) => {
      try {
        const answer = decode(message);
        if (answer.id === packet.id) {
          end();
          resolve(answer);
        }
      } catch {
        // Not an answer to us; the time limit ends the wait.
      }
    });
    socket.connect(53, nameserver, () => socket.send(encode(packet)));
  });
}

function overTcp(nameserver: string, packet: Packet, signal: AbortSignal): Promise<DecodedPacket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: nameserver, port: 53 });
    let received = Buffer.alloc(0);
    signal.addEventListener('abort', () => socket.destroy(), { once: true });
    socket.on('error', reject);
    socket.on('close', () => reject(signal.reason));
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        resolve(streamDecode(received) as DecodedPacket);
        socket.destroy();
      }
    });
    socket.write(streamEncode(packet));
  });
}
