import { lookup as lookupHere } from 'node:dns/promises';
import type { Answer } from 'dns-packet';
import * as dnsPacket from 'dns-packet';
import { type Clock, type IpBytes, parseIp, withTimeout } from '../../base/index.ts';
import type { DesiredDns } from '../../protocol/index.ts';
import { decideName } from './policy.ts';

export interface ResolverDeps {
  readonly clock: Clock;
  /** A name's records from the cluster, uncompressed. */
  readonly lookup: (name: string, qtype: number) => Promise<{ readonly rcode: number; readonly records: Uint8Array }>;
  /** This machine's resolver; empty when it does not know the name. */
  readonly lookupHere: (name: string) => Promise<readonly IpBytes[]>;
}

const types = { A: 1, AAAA: 28 } as const;
const noError = 0;
const nxdomain = 3;
const hereTimeoutMs = 5_000;

/** The library exports the codec of single records; its types do not say so. `bytes` is what the last call read. */
interface AnswerDecoder {
  (bytes: Buffer, offset: number): Answer;
  readonly bytes: number;
}
const decodeAnswer = (dnsPacket as unknown as { answer: { decode: AnswerDecoder } }).answer.decode;

/**
 * The addresses of a host, best first; empty when nobody knows it. An address stands for itself. Rejects when the
 * cluster could not be asked.
 */
export async function resolveHost(deps: ResolverDeps, host: string, dns: DesiredDns): Promise<readonly IpBytes[]> {
  const ip = parseIp(host);
  if (ip) {
    return [ip];
  }
  let name = host;
  let verdict = decideName(name, dns);
  if (verdict.kind === 'alias') {
    if (typeof verdict.target !== 'string') {
      return [verdict.target];
    }
    name = verdict.target;
    // One step: what an alias leads to is taken as it is, so that two of them cannot chase each other.
    const target = decideName(name, dns);
    verdict = target.kind === 'alias' ? { kind: 'here' } : target;
  }
  if (verdict.kind === 'cluster') {
    for (const type of ['A', 'AAAA'] as const) {
      const { rcode, records } = await deps.lookup(verdict.name, types[type]);
      const found = rcode === noError ? addressesIn(records) : [];
      if (found.length > 0) {
        return found;
      }
      if (rcode === nxdomain) {
        break;
      }
    }
    if (verdict.only) {
      return [];
    }
  }
  // The local network may know it: `printer` is one label too.
  return withTimeout(deps.clock, hereTimeoutMs, 'the name lookup', () => deps.lookupHere(name)).catch(() => []);
}

/** The machine's own resolver, with its hosts file. */
export async function lookupOnThisMachine(name: string): Promise<readonly IpBytes[]> {
  const found = await lookupHere(name, { all: true }).catch(() => []);
  return found.map(({ address }) => parseIp(address)).filter((each) => each !== undefined);
}

/** The addresses among records of the wire form; what cannot be read ends the list. */
export function addressesIn(records: Uint8Array): IpBytes[] {
  const bytes = Buffer.from(records);
  const found: IpBytes[] = [];
  try {
    for (let at = 0; at < bytes.length; at += decodeAnswer.bytes) {
      const answer = decodeAnswer(bytes, at);
      if (at + decodeAnswer.bytes > bytes.length) {
        // Cut off: the library fills with zeros.
        break;
      }
      const ip = answer.type === 'A' || answer.type === 'AAAA' ? parseIp(answer.data) : undefined;
      if (ip) {
        found.push(ip);
      }
    }
  } catch {
    return found;
  }
  return found;
}
