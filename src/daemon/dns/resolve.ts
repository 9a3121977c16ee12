import { type Clock, Emitter, type Event, isReason, type Logger } from '../../base/index.ts';
import { AnswerCache, type Perishable } from './cache.ts';
import {
  buildAnswer,
  buildBareAnswer,
  emptySection,
  rcodeOf,
  type Section,
  type Transport,
  toSection,
} from './codec.ts';
import { Finder, isOpen } from './find.ts';
import { type Edns, peekEdns, peekQuery, type Query } from './peek.ts';
import { type DnsVerdict, recursionCheckName, sanityName } from './policy.ts';
import { makeRecord } from './records.ts';
import type { Upstream } from './upstream.ts';
import { ClusterWindow, type DnsClient, type WindowOptions } from './window.ts';
import { classIn, rcode, recordType } from './wire.ts';

/** Questions since the start, by what became of them. */
export interface DnsStats {
  readonly asked: number;
  readonly fromCache: number;
  /** Asked at a cluster because the cache did not know. */
  readonly cluster: number;
  readonly upstream: number;
  /** Answered SERVFAIL. */
  readonly failed: number;
  /** Waits for a cluster or for upstream that took too long. */
  readonly timedOut: number;
}

export interface ResolverDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly upstream: Upstream;
}

interface Kept extends Perishable, Section {}

/** A question on its way through: what it is, who asks and how. */
interface Asked {
  readonly message: Buffer;
  readonly query: Query;
  readonly edns: Edns | undefined;
  readonly transport: Transport;
  readonly from: string;
}

interface Decision {
  readonly verdict: DnsVerdict;
  readonly window?: ClusterWindow;
}

const cacheLimits = { maxEntries: 8_192, maxBytes: 8 * 1024 * 1024 };
/** Questions that wait for a cluster; more are refused at once, for whoever waits in vain asks again. */
const maxInFlight = 1_000;
const passed: Decision = { verdict: { kind: 'upstream' } };
const refused: Decision = { verdict: { kind: 'refuse' } };
const sanityAddress = Uint8Array.of(127, 0, 0, 1);

/** From a message to its answer: cluster names from the windows' clusters, all others from upstream as they are. */
export class Resolver {
  readonly #deps: ResolverDeps;
  readonly #finder: Finder;
  /** Sections ready to be sent, by name and type. Only what no resolver upstream has a say in. */
  readonly #cache = new AnswerCache<Kept>(cacheLimits);
  readonly #stats = { asked: 0, fromCache: 0, cluster: 0, upstream: 0, failed: 0, timedOut: 0 };
  readonly #sanityAsked = new Emitter<void>();
  #windows: readonly ClusterWindow[] = [];
  /** Made once: a closure of `configure` would keep the windows before, which keep those before them. */
  readonly #windowOptions: WindowOptions;
  #generation = 0;
  #inFlight = 0;

  constructor(deps: ResolverDeps) {
    this.#deps = deps;
    this.#windowOptions = { clock: deps.clock, timedOut: () => void this.#stats.timedOut++ };
    this.#finder = new Finder({
      clock: deps.clock,
      forward: (message, transport) => this.#forward(message, transport),
    });
  }

  /** The sanity name was asked: the machine's programs reach us. */
  get onSanityAsked(): Event<void> {
    return this.#sanityAsked.event;
  }

  get stats(): DnsStats {
    return { ...this.#stats };
  }

  /** The windows that are connected, the first one first. One whose configuration is as it was keeps what it knows. */
  configure(clients: readonly DnsClient[]): void {
    const before = this.#windows;
    this.#windows = clients.map(
      (client) => before.find((window) => window.isOf(client)) ?? new ClusterWindow(client, this.#windowOptions),
    );
    if (this.#windows.length !== before.length || this.#windows.some((window, index) => window !== before[index])) {
      this.#forgetAnswers();
    }
  }

  /** Every name is asked anew. */
  forget(): void {
    this.#forgetAnswers();
    for (const window of this.#windows) {
      window.forget();
    }
  }

  /** Answers that are under way are not kept either. */
  #forgetAnswers(): void {
    this.#cache.clear();
    this.#generation++;
  }

  /**
   * The answer, at once where it is known; undefined when the message is none to answer. `from` is the asker's address.
   * Never throws and never rejects, whatever the bytes are.
   */
  answer(message: Buffer, transport: Transport, from: string): Buffer | undefined | Promise<Buffer | undefined> {
    const peek = peekQuery(message);
    if (peek.kind === 'ignore') {
      return undefined;
    }
    this.#stats.asked++;
    if (peek.kind === 'malformed') {
      return buildBareAnswer(message, rcode.formErr);
    }
    if (peek.kind === 'foreign') {
      return this.#forward(message, transport).then((answer) => answer ?? this.#fail(message));
    }
    const { query } = peek;
    const { name, qtype, qclass } = query;
    const now = this.#deps.clock.nowMs();
    const kept = name !== undefined && qclass === classIn ? this.#cache.get(name + qtype, now) : undefined;
    const { verdict, window } = kept ? refused : this.#decide(name);
    if (verdict.kind === 'upstream') {
      return this.#pass(message, query, transport);
    }
    const edns = peekEdns(message, query);
    if (edns === 'malformed') {
      return buildBareAnswer(message, rcode.formErr);
    }
    const asked = { message, query, edns, transport, from };
    if (edns && edns.version !== 0) {
      return this.#build(asked, emptySection(rcode.badVersion));
    }
    if (kept) {
      this.#stats.fromCache++;
      return this.#build(asked, kept, now - kept.atMs);
    }
    const known = this.#known(asked, verdict);
    if (known || !window || name === undefined) {
      return this.#build(asked, known ?? emptySection(rcode.nxdomain));
    }
    if (this.#inFlight >= maxInFlight) {
      return this.#build(asked, emptySection(rcode.servfail));
    }
    this.#inFlight++;
    return this.#resolve(asked, name, verdict, window).finally(() => {
      this.#inFlight--;
    });
  }

  /** The first window that claims the name; a refusal counts only when none does. */
  #decide(name: string | undefined): Decision {
    if (name === undefined) {
      return passed;
    }
    if (name === sanityName || (name === recursionCheckName && this.#windows.length > 0)) {
      return refused;
    }
    let found = passed;
    for (const window of this.#windows) {
      const verdict = window.decide(name);
      if (verdict.kind === 'cluster' || verdict.kind === 'mapped') {
        return { verdict, window };
      }
      if (verdict.kind === 'refuse') {
        found = refused;
      }
    }
    return found;
  }

  /** What needs no asking. */
  #known({ query: { name, qtype, qclass }, from }: Asked, { kind }: DnsVerdict): Section | undefined {
    if (qclass !== classIn || isTransfer(qtype)) {
      return emptySection(rcode.refused);
    }
    if (name === sanityName) {
      this.#sanityAsked.fire();
      return toSection(rcode.noError, qtype === recordType.A ? [makeRecord(recordType.A, 0, sanityAddress)] : []);
    }
    if (name === recursionCheckName) {
      for (const window of this.#windows) {
        window.recursionSeen(from);
      }
    }
    return kind === 'refuse' ? emptySection(rcode.nxdomain) : undefined;
  }

  async #resolve(asked: Asked, name: string, verdict: DnsVerdict, window: ClusterWindow): Promise<Buffer> {
    const { message, query, transport, from } = asked;
    const generation = this.#generation;
    this.#stats.cluster++;
    const found = await this.#finder.find(verdict, { window, qtype: query.qtype, from });
    const mayBeUpstreams = verdict.kind === 'cluster' && isOpen(found, verdict.only);
    if (mayBeUpstreams) {
      const other = await this.#forward(message, transport);
      if (other && rcodeOf(other) === rcode.noError) {
        return other;
      }
    }
    const section = toSection(found.rcode, found.records);
    const now = this.#deps.clock.nowMs();
    if (!mayBeUpstreams && generation === this.#generation) {
      const { atMs, untilMs } = found;
      const sizeBytes = section.bytes.length + 8 * section.count;
      this.#cache.set(name + query.qtype, { ...section, atMs, untilMs, sizeBytes }, now);
    }
    return this.#build(asked, section, now - found.atMs);
  }

  #pass(message: Buffer, query: Query, transport: Transport): Buffer | Promise<Buffer> {
    if (isTransfer(query.qtype)) {
      // Many messages for one question: nothing that programs ask their resolver for.
      return buildBareAnswer(message, rcode.refused);
    }
    return this.#forward(message, transport).then((answer) => {
      if (answer) {
        return answer;
      }
      const found = peekEdns(message, query);
      const edns = found === 'malformed' ? undefined : found;
      return this.#build({ message, query, edns, transport, from: '' }, emptySection(rcode.servfail));
    });
  }

  /** Upstream's answer, or undefined when there is none. */
  async #forward(message: Buffer, transport: Transport): Promise<Buffer | undefined> {
    this.#stats.upstream++;
    try {
      return await this.#deps.upstream.forward(message, transport);
    } catch (error) {
      this.#stats.timedOut += isReason(error, 'base.timeout') ? 1 : 0;
      this.#deps.log.debug('upstream gave no answer', { error });
      return undefined;
    }
  }

  #fail(message: Buffer): Buffer {
    this.#stats.failed++;
    return buildBareAnswer(message, rcode.servfail);
  }

  #build({ message, query, edns, transport }: Asked, section: Section, ageMs = 0): Buffer {
    if (section.rcode === rcode.servfail) {
      this.#stats.failed++;
    }
    return buildAnswer(message, query, section, { edns, transport, ageSeconds: Math.floor(ageMs / 1_000) });
  }
}

const isTransfer = (qtype: number): boolean => qtype === recordType.AXFR || qtype === recordType.IXFR;
