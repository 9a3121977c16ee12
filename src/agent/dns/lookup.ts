import { Resolver } from 'node:dns/promises';
import type { Answer } from 'dns-packet';
import * as dnsPacket from 'dns-packet';
import { concatBytes, type IpBytes, parseIp } from '../../base/index.ts';

export interface Records {
  /** 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 4 NOTIMP. */
  readonly rCode: number;
  /** Resource records one after the other, uncompressed, without a header. */
  readonly rrs: Uint8Array;
}

/** The questions that a resolver is asked; Node's own speaks to the pod's name server. */
export interface NameServer {
  resolve(name: string, type: string): Promise<unknown>;
}

const types: Record<number, string> = {
  1: 'A',
  2: 'NS',
  5: 'CNAME',
  12: 'PTR',
  15: 'MX',
  16: 'TXT',
  28: 'AAAA',
  33: 'SRV',
};
const nothing = new Uint8Array(0);
/** Short, because pods come and go. */
const ttlSeconds = 4;
const queryTimeoutMs = 1_000;

export const createNameServer = (): NameServer => new Resolver({ timeout: queryTimeoutMs, tries: 2 });

/** The search list of resolv.conf(5): where names without an end are looked for. */
export function parseSearchList(resolvConf: string): readonly string[] {
  const lines = [...resolvConf.matchAll(/^search[ \t]+(.*)$/gm)];
  return (lines.at(-1)?.[1] ?? '').split(/[ \t]+/).filter((each) => each !== '');
}

/** Answers as a program of this pod would hear: with its search list. */
export class PodNames {
  readonly #server: NameServer;
  readonly #search: readonly string[];

  constructor(server: NameServer, search: readonly string[]) {
    this.#server = server;
    this.#search = search;
  }

  /** `name` ends with a dot; the answer is about that name. */
  async lookup(name: string, qtype: number): Promise<Records> {
    const type = types[qtype];
    if (!type) {
      return { rCode: 4, rrs: nothing };
    }
    for (const candidate of this.#candidates(name)) {
      try {
        const found = await this.#server.resolve(candidate, type);
        return { rCode: 0, rrs: serialize(name.replace(/\.$/, ''), type, Array.isArray(found) ? found : [found]) };
      } catch (error) {
        const { code } = error as { readonly code?: unknown };
        if (code === 'ENODATA') {
          return { rCode: 0, rrs: nothing };
        }
        if (code !== 'ENOTFOUND') {
          return { rCode: 2, rrs: nothing };
        }
      }
    }
    return { rCode: 3, rrs: nothing };
  }

  /** Every address of a name, of both families. */
  async addresses(name: string): Promise<readonly IpBytes[]> {
    const found: string[] = [];
    for (const candidate of this.#candidates(name)) {
      const answers = await Promise.allSettled(['A', 'AAAA'].map((type) => this.#server.resolve(candidate, type)));
      for (const answer of answers) {
        found.push(...(answer.status === 'fulfilled' && Array.isArray(answer.value) ? answer.value.map(String) : []));
      }
      if (found.length > 0) {
        break;
      }
    }
    return found.map((each) => parseIp(each)).filter((each) => each !== undefined);
  }

  /** Short names by the search list, middling ones so first, long ones as they are. */
  #candidates(name: string): string[] {
    const plain = name.replace(/\.$/, '');
    const dots = plain.split('.').length;
    const searched = this.#search.map((suffix) => `${plain}.${suffix}`);
    const isWhole = dots > 4 || this.#search.some((suffix) => plain.endsWith(`.${suffix}`));
    return isWhole ? [plain] : dots === 1 ? searched : [...searched, plain];
  }
}

/** The library exports the codec of single records; its types do not say so. */
const codec = (dnsPacket as unknown as { answer: { encode(answer: Answer): Uint8Array } }).answer;

function serialize(name: string, type: string, found: readonly unknown[]): Uint8Array {
  return concatBytes(
    found.map((each) =>
      codec.encode({ name, type, class: 'IN', ttl: ttlSeconds, data: toData(type, each) } as unknown as Answer),
    ),
  );
}

/** From Node's shape of a record to the codec's. */
function toData(type: string, found: unknown): unknown {
  const record = found as Readonly<Record<string, unknown>>;
  switch (type) {
    case 'MX':
      return { preference: record['priority'], exchange: record['exchange'] };
    case 'SRV':
      return { priority: record['priority'], weight: record['weight'], port: record['port'], target: record['name'] };
    default:
      return found;
  }
}
