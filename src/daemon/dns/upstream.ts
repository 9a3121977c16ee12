import type { Clock, Disposable, Logger } from '../../base/index.ts';
import { timedOut } from '../../base/index.ts';
import { upstreamFailed } from '../errors.ts';
import { rcodeOf } from './codec.ts';
import { rcode } from './peek.ts';
import { TcpLink } from './upstream-tcp.ts';
import { UdpLink } from './upstream-udp.ts';

export interface Upstream extends Disposable {
  /** The upstream's answer, byte for byte, with the message's id. Rejects when there is none in time. */
  forward(message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer>;
}

export interface UpstreamOptions {
  /** Resolvers, best first. */
  readonly addresses: readonly string[];
  /** 53, unless it is a test's. */
  readonly port?: number;
  readonly clock: Clock;
  readonly log: Logger;
  /**
   * Source ports that the redirect lets pass: our own questions must not come back to us. Ports that somebody else
   * holds are passed over – a second user's daemon has the same list. Empty: any port.
   */
  readonly sourcePorts: readonly number[];
}

/** What became of one attempt. */
export interface Attempt {
  answered(answer: Buffer): void;
  failed(error: unknown): void;
}

/** A way to one resolver. `ask` answers a function that gives the attempt up. */
export interface Link extends Disposable {
  ask(message: Buffer, attempt: Attempt): () => void;
}

/** All attempts together: what a program's own resolver waits at least. */
const timeoutMs = 4_000;
/** Then the next resolver is asked as well, or the same one again: datagrams get lost. */
const attemptMs = 1_000;
const maxAttempts = 4;
const maxWaiting = 2_000;
/** How long the resolver that answered instead of a better one is asked first. */
const preferredMs = 30_000;

interface Server extends Disposable {
  readonly udp: Link;
  readonly tcp: Link;
}

/** Hands questions to the resolvers that the machine had before. */
export class UpstreamResolver implements Upstream {
  readonly #options: UpstreamOptions;
  readonly #exchanges = new Set<Exchange>();
  #addresses: readonly string[] = [];
  #servers: readonly Server[] = [];
  #preferred: { readonly server: Server; readonly untilMs: number } | undefined;

  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.setAddresses(options.addresses);
  }

  /** The machine's resolvers changed. Questions on their way to the old ones fail. */
  setAddresses(addresses: readonly string[]): void {
    if (this.#servers.length > 0 && addresses.join() === this.#addresses.join()) {
      return;
    }
    this.#addresses = addresses;
    this.#preferred = undefined;
    for (const server of this.#servers) {
      void server.dispose();
    }
    const { clock, log, port = 53, sourcePorts } = this.#options;
    this.#servers = addresses.map((address, index) => {
      // Each resolver has ports of its own, so that no two sockets share one.
      const own = sourcePorts.filter((_, each) => each % addresses.length === index);
      const udp = new UdpLink({ address, port, sourcePorts: own, log });
      const tcp = new TcpLink({ address, port, sourcePorts: own, clock });
      return {
        udp,
        tcp,
        dispose() {
          udp.dispose();
          tcp.dispose();
        },
      };
    });
  }

  /** Errors: `base.timeout`, `daemon.upstream-failed`. */
  forward(message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer> {
    if (this.#exchanges.size >= maxWaiting) {
      return Promise.reject(upstreamFailed('too many questions are waiting'));
    }
    const { clock } = this.#options;
    const preferred = this.#preferred && this.#preferred.untilMs > clock.nowMs() ? this.#preferred.server : undefined;
    const servers = preferred
      ? [preferred, ...this.#servers.filter((server) => server !== preferred)]
      : [...this.#servers];
    return new Promise((resolve, reject) => {
      const exchange = new Exchange(
        clock,
        servers.map((server) => server[transport]),
        message,
        {
          answered: (answer, index) => {
            this.#exchanges.delete(exchange);
            const server = servers[index];
            if (index > 0 && server) {
              this.#preferred = { server, untilMs: clock.nowMs() + preferredMs };
            }
            resolve(answer);
          },
          failed: (error) => {
            this.#exchanges.delete(exchange);
            reject(error);
          },
        },
      );
      this.#exchanges.add(exchange);
      exchange.start();
    });
  }

  dispose(): void {
    for (const server of this.#servers) {
      void server.dispose();
    }
    for (const exchange of [...this.#exchanges]) {
      exchange.end(upstreamFailed('the network is being taken down'));
    }
  }
}

interface Outcome {
  readonly answered: (answer: Buffer, index: number) => void;
  readonly failed: (error: unknown) => void;
}

/** One question: asked here and there until one answer counts. */
class Exchange {
  readonly #clock: Clock;
  readonly #links: readonly Link[];
  readonly #message: Buffer;
  readonly #outcome: Outcome;
  readonly #giveUp: (() => void)[] = [];
  readonly #startedMs: number;
  #timer: Disposable | undefined;
  #attempts = 0;
  #failures = 0;
  #isOver = false;
  /** An answer that says no more than that this resolver cannot: kept in case that the others can neither. */
  #poor: { readonly answer: Buffer; readonly index: number } | undefined;

  constructor(clock: Clock, links: readonly Link[], message: Buffer, outcome: Outcome) {
    this.#clock = clock;
    this.#links = links;
    this.#message = message;
    this.#outcome = outcome;
    this.#startedMs = clock.nowMs();
  }

  start(): void {
    this.#next();
  }

  end(error: unknown): void {
    if (this.#isOver) {
      return;
    }
    this.#finish();
    if (this.#poor) {
      this.#outcome.answered(this.#poor.answer, this.#poor.index);
    } else {
      this.#outcome.failed(error);
    }
  }

  #next(): void {
    void this.#timer?.dispose();
    const index = this.#attempts++ % Math.max(1, this.#links.length);
    const link = this.#links[index];
    if (!link) {
      this.end(upstreamFailed('the machine has no resolver'));
      return;
    }
    this.#timer = this.#clock.after(this.#waitMs(), () =>
      this.#attempts < maxAttempts && this.#clock.nowMs() - this.#startedMs < timeoutMs
        ? this.#next()
        : this.end(timedOut('the resolver upstream', timeoutMs)),
    );
    this.#giveUp.push(
      link.ask(this.#message, {
        answered: (answer) => this.#answered(answer, index),
        failed: (error) => this.#failed(error),
      }),
    );
  }

  /** The last attempt has what is left. */
  #waitMs(): number {
    return this.#attempts < maxAttempts ? attemptMs : timeoutMs - (this.#clock.nowMs() - this.#startedMs);
  }

  #answered(answer: Buffer, index: number): void {
    if (this.#isOver) {
      return;
    }
    if (rcodeOf(answer) === rcode.servfail || rcodeOf(answer) === rcode.refused) {
      this.#poor ??= { answer, index };
      this.#failed(undefined);
      return;
    }
    this.#finish();
    this.#outcome.answered(answer, index);
  }

  /** The next resolver is asked at once; when all have failed there is nothing to wait for. */
  #failed(error: unknown): void {
    if (this.#isOver) {
      return;
    }
    this.#failures++;
    if (this.#failures >= Math.max(this.#links.length, this.#attempts)) {
      this.end(error ?? upstreamFailed('no resolver answers'));
    } else if (this.#attempts < this.#links.length) {
      this.#next();
    }
  }

  #finish(): void {
    this.#isOver = true;
    void this.#timer?.dispose();
    for (const giveUp of this.#giveUp) {
      giveUp();
    }
  }
}
