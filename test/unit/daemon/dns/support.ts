import * as dnsPacket from 'dns-packet';
import { type Answer, type DecodedPacket, decode, encode, type Packet } from 'dns-packet';
import { concatBytes, type Subnet, silentLogger } from '../../../../src/base/index.ts';
import { Resolver } from '../../../../src/daemon/dns/resolve.ts';
import type { DnsClient, LookupResult } from '../../../../src/daemon/dns/server.ts';
import type { Upstream } from '../../../../src/daemon/dns/upstream.ts';
import type { DesiredDns } from '../../../../src/protocol/index.ts';
import { HandClock } from '../../manager/hand-clock.ts';

export const desiredDns = (changes: Partial<DesiredDns> = {}): DesiredDns => ({
  clusterDomain: 'cluster.local',
  namespace: 'service-a-ns',
  routedDomains: ['service-a-ns', 'service-b-ns', 'svc'],
  includeSuffixes: [],
  excludeSuffixes: ['.com', '.io', '.net', '.org', '.ru'],
  excludes: [],
  mappings: [],
  timeoutMs: 4_000,
  ...changes,
});

const recordCodec = (dnsPacket as unknown as { answer: { encode(answer: Answer): Uint8Array } }).answer;
export const recordBytes = (answers: readonly Answer[]): Uint8Array =>
  concatBytes(answers.map((each) => recordCodec.encode(each)));

const typeNumbers: Record<string, number> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  HTTPS: 65,
  AXFR: 252,
  ANY: 255,
};
export const typeNumber = (type: string): number => typeNumbers[type] ?? Number(type);

/** A cluster that knows some names; it counts what it is asked, and answers at once or when told. */
export class FakeCluster {
  readonly asked: string[] = [];
  readonly zone = new Map<string, Answer[]>();
  /** When set, what each lookup waits for. */
  gate: ((name: string, qtype: number) => Promise<void>) | undefined;
  rcode: number | undefined;

  /** `name` of these types; a name without the wanted type is NXDOMAIN here, as some peers say it. */
  add(name: string, ...answers: Answer[]): this {
    this.zone.set(name, answers);
    return this;
  }

  readonly lookup = async (name: string, qtype: number): Promise<LookupResult> => {
    this.asked.push(`${name} ${qtype}`);
    await this.gate?.(name, qtype);
    const all = this.zone.get(name) ?? [];
    const found = all.filter(({ type }) => typeNumber(type) === qtype || type === 'CNAME');
    return found.length > 0 || this.rcode !== undefined
      ? { rcode: this.rcode ?? 0, records: recordBytes(found) }
      : { rcode: 3, records: new Uint8Array(0) };
  };

  client(changes: Partial<DesiredDns> = {}, subnets: readonly Subnet[] = []): DnsClient {
    return { dns: desiredDns(changes), subnets, lookup: this.lookup };
  }
}

/** An upstream that answers with an address for names it knows, and keeps what it was sent. */
export class FakeUpstream implements Upstream {
  readonly messages: Buffer[] = [];
  readonly known = new Map<string, string>();
  isSilent = false;
  /** Answers over UDP say that they are cut. */
  isLong = false;

  async forward(message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer> {
    this.messages.push(message);
    if (this.isSilent) {
      throw new RangeError('no answer');
    }
    const query = decode(message);
    const question = query.questions?.[0];
    const address = this.known.get(question?.name ?? '');
    const isCut = this.isLong && transport === 'udp';
    const isA = !isCut && address !== undefined && question?.type === 'A';
    return encode({
      type: 'response',
      id: query.id ?? 0,
      flags: 0x180 | (isCut ? 0x200 : 0) | (address === undefined ? 3 : 0),
      questions: query.questions ?? [],
      answers: isA ? [{ type: 'A', name: question.name, ttl: 60, data: address }] : [],
    });
  }

  dispose(): void {}
}

export interface Kit {
  readonly clock: HandClock;
  readonly cluster: FakeCluster;
  readonly upstream: FakeUpstream;
  readonly resolver: Resolver;
}

/** A resolver with one window and one upstream, both fakes. */
export function createKit(changes: Partial<DesiredDns> = {}, subnets: readonly Subnet[] = []): Kit {
  const clock = new HandClock();
  const cluster = new FakeCluster();
  const upstream = new FakeUpstream();
  const resolver = new Resolver({ clock, log: silentLogger, upstream });
  resolver.configure([cluster.client(changes, subnets)]);
  return { clock, cluster, upstream, resolver };
}

export interface QuestionOptions {
  readonly id?: number;
  readonly opt?: { readonly udpPayloadSize?: number; readonly version?: number; readonly dnssecOk?: boolean };
  readonly flags?: number;
  readonly transport?: 'udp' | 'tcp';
  readonly from?: string;
}

export function question(name: string, type = 'A', { id = 4_711, opt, flags = 0x100 }: QuestionOptions = {}): Buffer {
  const packet: Packet = {
    type: 'query',
    id,
    flags,
    questions: [{ name, type: type as 'A', class: 'IN' }],
    ...(opt
      ? {
          additionals: [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: opt.udpPayloadSize ?? 1_232,
              extendedRcode: 0,
              ednsVersion: opt.version ?? 0,
              flags: opt.dnssecOk ? 0x8000 : 0,
              flag_do: opt.dnssecOk ?? false,
              options: [],
            },
          ],
        }
      : {}),
  };
  return encode(packet);
}

export async function ask(
  { resolver }: Pick<Kit, 'resolver'>,
  name: string,
  type = 'A',
  options: QuestionOptions = {},
): Promise<DecodedPacket> {
  const { transport = 'udp', from = '127.0.0.1' } = options;
  const answer = await resolver.answer(question(name, type, options), transport, from);
  if (!answer) {
    throw new TypeError(`no answer for ${name}`);
  }
  return decode(answer);
}

/** `NOERROR web A 10.96.0.1 4`, one part per record: an answer as a line. */
export function textOf(packet: DecodedPacket): string {
  const { rcode } = packet as unknown as { rcode: string };
  const records = (packet.answers ?? []).map((each) =>
    'data' in each ? `${each.name} ${each.type} ${dataText(each.data)} ${'ttl' in each ? each.ttl : ''}` : each.type,
  );
  return [rcode, ...records].join(' | ');
}

const dataText = (data: unknown): string => (typeof data === 'string' ? data : JSON.stringify(data));
