import { type Clock, reverseAddress, withTimeout } from '../../base/index.ts';
import { answerFromUpstream, mappedRecords, recordsOf } from './alias.ts';
import type { DnsVerdict } from './policy.ts';
import { lookedUpTypes, type WireRecord } from './records.ts';
import { type ClusterWindow, type Resolution, toResolution } from './window.ts';
import { rcode, recordType } from './wire.ts';

export interface FinderDeps {
  readonly clock: Clock;
  /** Upstream's answer to a message, or undefined when there is none. */
  readonly forward: (message: Buffer, transport: 'udp' | 'tcp') => Promise<Buffer | undefined>;
}

/** Who asks for records of which type. */
export interface Wish {
  readonly window: ClusterWindow;
  readonly qtype: number;
  /** The asker's address. */
  readonly from: string;
}

/** An alias of an alias of … : a circle must end. */
const maxAliases = 8;

/** From a verdict to records: mappings followed, the cluster's answers made whole. */
export class Finder {
  readonly #deps: FinderDeps;

  constructor(deps: FinderDeps) {
    this.#deps = deps;
  }

  /** Never rejects; what fails is SERVFAIL. */
  async find(verdict: DnsVerdict, wish: Wish, depth = 0): Promise<Resolution> {
    switch (verdict.kind) {
      case 'cluster':
        return this.#fromCluster(verdict.name, wish);
      case 'mapped': {
        const { target } = verdict;
        const alias = mappedRecords(target, wish.qtype);
        if (depth >= maxAliases) {
          return this.#made(rcode.servfail);
        }
        if (typeof target !== 'string' || wish.qtype === recordType.CNAME) {
          return this.#made(rcode.noError, alias);
        }
        const found = await this.#findTarget(target, wish, depth);
        const whole = this.#made(found.rcode, [...alias, ...recordsOf(target, found.records)]);
        return { ...whole, atMs: found.atMs, untilMs: Math.min(whole.untilMs, found.untilMs) };
      }
      case 'upstream':
      case 'refuse':
        return this.#made(rcode.nxdomain);
    }
  }

  /** What an alias stands for is decided anew: it may be the cluster's, another alias, or a name out there. */
  async #findTarget(target: string, wish: Wish, depth: number): Promise<Resolution> {
    const verdict = wish.window.decide(target);
    const found = verdict.kind === 'upstream' ? undefined : await this.find(verdict, wish, depth + 1);
    const mayAskUpstream = !found || (verdict.kind === 'cluster' && isOpen(found, verdict.only));
    if (!mayAskUpstream) {
      return found;
    }
    const answer = await answerFromUpstream(target, wish.qtype, this.#deps.forward);
    return answer && (!found || answer.rcode === rcode.noError)
      ? this.#made(answer.rcode, answer.records)
      : (found ?? this.#made(rcode.servfail));
  }

  /**
   * A name that exists has no records of a type that it lacks, and is never said not to exist (RFC 2308 §2.2): peers
   * say so, and resolvers that ask for both address families then drop both. Types that nobody looks up in a cluster
   * are answered by whether the name exists.
   */
  #fromCluster(name: string, { window, qtype, from }: Wish): Promise<Resolution> {
    const ask = async (): Promise<Resolution> => {
      if (reverseAddress(name.slice(0, -1))) {
        const found = await window.lookup(name, recordType.PTR, { from });
        return qtype === recordType.PTR ? found : { ...found, records: [] };
      }
      const first = lookedUpTypes.has(qtype) ? qtype : recordType.A;
      const found = await window.lookup(name, first, { from });
      for (const other of [recordType.A, recordType.AAAA]) {
        if (found.rcode !== rcode.nxdomain || found.isOwnQuestion || found.records.length > 0) {
          break;
        }
        const sibling = other === first ? found : await window.lookup(name, other, { from, isProbe: true });
        if (sibling.rcode !== rcode.nxdomain || sibling.isOwnQuestion) {
          return { ...sibling, records: [] };
        }
      }
      return first === qtype ? found : { ...found, records: [] };
    };
    return withTimeout(this.#deps.clock, window.timeoutMs, 'the name lookup', ask).catch(() =>
      this.#made(rcode.servfail),
    );
  }

  #made(code: number, records: readonly WireRecord[] = []): Resolution {
    return toResolution(code, records, this.#deps.clock.nowMs());
  }
}

/** True when the resolver upstream may know better: `printer` is one label too. */
export function isOpen(found: Resolution, isClusterOnly: boolean): boolean {
  return found.rcode !== rcode.noError && !isClusterOnly && !found.isOwnQuestion;
}
