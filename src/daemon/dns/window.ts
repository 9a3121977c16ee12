import { type Clock, formatSubnet, isReason, type Subnet, withTimeout } from '../../base/index.ts';
import type { DesiredDns } from '../../protocol/index.ts';
import { AnswerCache, type Perishable } from './cache.ts';
import { createPolicy, type DnsPolicy, recursionCheckName } from './policy.ts';
import { parseRecords, type WireRecord } from './records.ts';
import { rcode, recordType } from './wire.ts';

export interface LookupResult {
  readonly rcode: number;
  /** Uncompressed records, one after the other. */
  readonly records: Uint8Array;
}

/** One window's names, and how its cluster is asked. */
export interface DnsClient {
  readonly dns: DesiredDns;
  /** What the cluster routes: reverse names of these are the cluster's. */
  readonly subnets: readonly Subnet[];
  /** Rejects when nobody is there to ask. The same function for as long as it is the same window. */
  readonly lookup: (name: string, qtype: number, signal: AbortSignal) => Promise<LookupResult>;
}

/** What became of a name. Owners that are undefined are the name itself. */
export interface Resolution extends Perishable {
  readonly rcode: number;
  readonly records: readonly WireRecord[];
  /** Answered from here because the cluster asked back: nothing more may be asked to find this answer. */
  readonly isOwnQuestion?: boolean;
}

export interface WindowOptions {
  readonly clock: Clock;
  /** Told of each lookup that took too long. */
  readonly timedOut: () => void;
}

const negativeTtlMs = 2_000;
/** Pods come and go: a peer's TTL is not believed longer than this. */
const maxTtlMs = 30_000;
const limits = { maxEntries: 4_096, maxBytes: 4 * 1024 * 1024 };
const maxFlights = 1_000;
const maxJoiners = 1_000;
const recursionCheckPeriodMs = 30_000;

/** Who asks a window. */
export interface Asker {
  /** The address that the question came from. */
  readonly from: string;
  /** We ask to answer that question, which was for another type. */
  readonly isProbe?: boolean;
}

interface Joiner {
  readonly asker: Asker;
  readonly resolve: (resolution: Resolution) => void;
}

interface Flight {
  readonly startedBy: string;
  joiners: Joiner[];
}

/** A window's cluster as a resolver: cached, one question at a time for each name, and no loop. */
export class ClusterWindow {
  readonly decide: DnsPolicy;
  readonly #client: DnsClient;
  readonly #fingerprint: string;
  readonly #clock: Clock;
  readonly #timedOut: () => void;
  readonly #cache = new AnswerCache<Resolution>(limits);
  readonly #flights = new Map<string, Flight>();
  #nextCheckMs = 0;
  #isChecking = false;
  /** Where the cluster's own questions come to us from, when they do. */
  readonly #clusterAskers = new Set<string>();

  constructor(client: DnsClient, { clock, timedOut }: WindowOptions) {
    this.#client = client;
    this.#fingerprint = fingerprintOf(client);
    this.#clock = clock;
    this.#timedOut = timedOut;
    this.decide = createPolicy(client.dns, client.subnets);
  }

  get timeoutMs(): number {
    return this.#client.dns.timeoutMs;
  }

  forget(): void {
    this.#cache.clear();
  }

  /** The same window with the same configuration: what is cached here is still true. */
  isOf(client: DnsClient): boolean {
    return client.lookup === this.#client.lookup && fingerprintOf(client) === this.#fingerprint;
  }

  /**
   * What the cluster says; never rejects. A cluster on this very machine may hand the question back to this machine's
   * resolver, us: that one must not wait for itself.
   */
  async lookup(name: string, qtype: number, asker: Asker): Promise<Resolution> {
    const key = `${name}${qtype}`;
    const now = this.#clock.nowMs();
    const cached = this.#cache.get(key, now);
    if (cached) {
      return cached;
    }
    const flying = this.#flights.get(key);
    if (flying) {
      return this.#join(flying, asker);
    }
    if (this.#flights.size >= maxFlights) {
      return this.#answer(rcode.servfail, []);
    }
    const flight: Flight = { startedBy: asker.from, joiners: [] };
    this.#flights.set(key, flight);
    const found = await this.#ask(name, qtype);
    this.#flights.delete(key);
    this.#cache.set(key, found, this.#clock.nowMs());
    for (const { resolve } of flight.joiners) {
      resolve(found);
    }
    return found;
  }

  /** The name that only we ask about was asked here, by `from`: no program of this machine, so the cluster. */
  recursionSeen(from: string): void {
    if (!this.#isChecking) {
      return;
    }
    this.#clusterAskers.add(from);
    for (const flight of this.#flights.values()) {
      const own = flight.joiners.filter(({ asker }) => this.#isOwnQuestion(flight, asker));
      flight.joiners = flight.joiners.filter((joiner) => !own.includes(joiner));
      for (const { resolve } of own) {
        resolve(this.#ownAnswer());
      }
    }
  }

  #join(flight: Flight, asker: Asker): Promise<Resolution> | Resolution {
    if (this.#isOwnQuestion(flight, asker)) {
      return this.#ownAnswer();
    }
    if (flight.joiners.length >= maxJoiners) {
      return this.#answer(rcode.servfail, []);
    }
    return new Promise((resolve) => {
      flight.joiners.push({ asker, resolve });
      void this.#checkRecursion();
    });
  }

  /**
   * By the address alone where it is the same type. A probe for another one may be a program's, where programs and the
   * cluster ask from one address: that both began there says so.
   */
  #isOwnQuestion({ startedBy }: Flight, { from, isProbe }: Asker): boolean {
    return this.#clusterAskers.has(from) && !(isProbe && startedBy === from);
  }

  /** Only who joins can be the question coming back, so only then is it worth finding out. */
  async #checkRecursion(): Promise<void> {
    const now = this.#clock.nowMs();
    if (this.#isChecking || now < this.#nextCheckMs) {
      return;
    }
    this.#nextCheckMs = now + recursionCheckPeriodMs;
    this.#isChecking = true;
    await this.#ask(recursionCheckName, recordType.A, false);
    this.#isChecking = false;
  }

  async #ask(name: string, qtype: number, isCounted = true): Promise<Resolution> {
    try {
      const { rcode: code, records } = await withTimeout(
        this.#clock,
        this.timeoutMs,
        'the name lookup',
        async (signal) => this.#client.lookup(name, qtype, signal),
      );
      const isAnswer = code === rcode.noError || code === rcode.nxdomain;
      return isAnswer ? this.#answer(code, parseRecords(records, name)) : this.#answer(rcode.servfail, []);
    } catch (error) {
      if (isCounted && isReason(error, 'base.timeout')) {
        this.#timedOut();
      }
      return this.#answer(rcode.servfail, []);
    }
  }

  #answer(code: number, records: readonly WireRecord[]): Resolution {
    return toResolution(code, records, this.#clock.nowMs());
  }

  #ownAnswer(): Resolution {
    return { ...this.#answer(rcode.nxdomain, []), untilMs: 0, isOwnQuestion: true };
  }
}

export function toResolution(code: number, records: readonly WireRecord[], atMs: number): Resolution {
  // Owners share the body's buffer; each record is a few small objects beside it.
  const sizeBytes = records.reduce((sum, { body }) => sum + body.length + 200, 0);
  return { rcode: code, records, atMs, untilMs: atMs + lifeMs(code, records), sizeBytes };
}

/** How long an answer counts; failures do not. */
function lifeMs(code: number, records: readonly WireRecord[]): number {
  if (code !== rcode.noError && code !== rcode.nxdomain) {
    return 0;
  }
  return records.length === 0
    ? negativeTtlMs
    : records.reduce((least, { ttlSeconds }) => Math.min(least, ttlSeconds * 1_000), maxTtlMs);
}

function fingerprintOf({ dns, subnets }: DnsClient): string {
  return JSON.stringify([dns, subnets.map(formatSubnet)]);
}
