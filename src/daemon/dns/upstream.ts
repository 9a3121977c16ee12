import type { Clock, Disposable, Logger } from '../../base/index.ts';
import { upstreamFailed } from '../errors.ts';
import { Exchange, type Link } from './upstream/exchange.ts';
import { TcpLink } from './upstream/tcp.ts';
import { UdpLink } from './upstream/udp.ts';

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

const maxWaiting = 2_000;
/** How long the resolver that answered instead of a better one is asked first. */
const preferredMs = 30_000;

/** One resolver, both ways. */
export interface UpstreamServer extends Disposable {
  readonly udp: Link;
  readonly tcp: Link;
}

export type OpenServer = (address: string, sourcePorts: readonly number[]) => UpstreamServer;

/** Hands questions to the resolvers that the machine had before. */
export class UpstreamResolver implements Upstream {
  readonly #options: UpstreamOptions;
  readonly #open: OpenServer;
  readonly #exchanges = new Set<Exchange>();
  #addresses: readonly string[] = [];
  #servers: readonly UpstreamServer[] = [];
  #preferred: { readonly server: UpstreamServer; readonly untilMs: number } | undefined;

  constructor(options: UpstreamOptions, open: OpenServer = sockets(options)) {
    this.#options = options;
    this.#open = open;
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
    const { sourcePorts } = this.#options;
    // Each resolver has ports of its own, so that no two sockets share one.
    this.#servers = addresses.map((address, index) =>
      this.#open(
        address,
        sourcePorts.filter((_, each) => each % addresses.length === index),
      ),
    );
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
      const links = servers.map((server) => server[transport]);
      const exchange = new Exchange(
        { clock, links, message, mayBeLost: transport === 'udp' },
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
    for (const exchange of [...this.#exchanges]) {
      exchange.end(upstreamFailed('the network is being taken down'));
    }
    for (const server of this.#servers) {
      void server.dispose();
    }
  }
}

function sockets({ clock, log, port = 53 }: UpstreamOptions): OpenServer {
  return (address, sourcePorts) => {
    const udp = new UdpLink({ address, port, sourcePorts, log });
    const tcp = new TcpLink({ address, port, sourcePorts, clock });
    return {
      udp,
      tcp,
      dispose() {
        udp.dispose();
        tcp.dispose();
      },
    };
  };
}
