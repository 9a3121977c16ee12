import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type Clock, type Disposable, type Event, type Logger, Scope } from '../../base/index.ts';
import { type DnsStats, Resolver } from './resolve.ts';
import { serveStream } from './stream.ts';
import type { Upstream } from './upstream.ts';
import type { DnsClient } from './window.ts';

export type { DnsStats } from './resolve.ts';
export type { DnsClient, LookupResult } from './window.ts';

export interface DnsServerDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly upstream: Upstream;
}

export interface ListenOptions {
  /** Also on `::1`: where a resolver in use has an IPv6 address, its questions are led there. */
  readonly ipv6?: boolean;
  /** Exactly there, instead of on a port of its own choice of `127.0.0.1`. */
  readonly place?: { readonly address: string; readonly port: number };
}

/** Both stacks and both protocols must have the same port: another program may hold one of them. */
const portAttempts = 20;
const maxTcpClients = 100;
const maxTcpInFlight = 64;
const tcpIdleMs = 10_000;
/** A burst of questions waits here while one of them is worked on. */
const receiveBufferBytes = 1024 * 1024;

/** The machine's resolver while connected: cluster names from the cluster, all others as they were. */
export class DnsServer implements Disposable {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #resolver: Resolver;
  readonly #clients = new Set<Socket>();
  #scope = new Scope();

  constructor(deps: DnsServerDeps) {
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#resolver = new Resolver(deps);
  }

  get stats(): DnsStats {
    return this.#resolver.stats;
  }

  /** The sanity name was asked: the machine's programs reach us. */
  get onSanityAsked(): Event<void> {
    return this.#resolver.onSanityAsked;
  }

  /** Listens on one loopback port, UDP and TCP; resolves with it. Rejects when there is no such port. */
  async listen({ ipv6 = false, place }: ListenOptions = {}): Promise<number> {
    for (let attempt = 1; ; attempt++) {
      const scope = new Scope();
      try {
        // Loopback only: bound to every address, answers would leave with the wrong source. TCP's ports are the scarce ones.
        const { address = '127.0.0.1' } = place ?? {};
        const port = await this.#bindTcp(scope, address, place?.port ?? 0);
        await this.#bindUdp(scope, 'udp4', address, port);
        if (ipv6) {
          await this.#bindUdp(scope, 'udp6', '::1', port);
          await this.#bindTcp(scope, '::1', port);
        }
        this.#scope = scope;
        return port;
      } catch (error) {
        await scope.dispose();
        if (ipv6 && hasCode(error, 'EADDRNOTAVAIL', 'EAFNOSUPPORT')) {
          this.#log.info('no IPv6 loopback: names are served over IPv4 only', { error });
          return this.listen(place ? { place } : {});
        }
        if (place || attempt >= portAttempts || !hasCode(error, 'EADDRINUSE')) {
          throw error;
        }
      }
    }
  }

  /** The windows that are connected, the first one first: a name is asked where a window claims it. */
  configure(windows: readonly DnsClient[]): void {
    this.#resolver.configure(windows);
  }

  /** Every name is asked anew. */
  forget(): void {
    this.#resolver.forget();
  }

  dispose(): void {
    void this.#scope.dispose();
    for (const socket of this.#clients) {
      socket.destroy();
    }
  }

  async #bindUdp(scope: Scope, type: 'udp4' | 'udp6', address: string, port: number): Promise<void> {
    const family = type === 'udp4' ? 4 : 6;
    // Every address here is a literal: what Node would do to look it up costs a turn of the event loop per answer.
    const lookup = (host: string, _: unknown, done: (error: null, address: string, family: number) => void): void =>
      done(null, host, family);
    const socket = createSocket({ type, ipv6Only: type === 'udp6', lookup });
    scope.defer(() => closed(socket));
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(port, address, () => {
        socket.off('error', reject);
        resolve();
      });
    });
    socket.on('error', (error) => this.#log.warn('dns socket failed', { error }));
    try {
      socket.setRecvBufferSize(receiveBufferBytes);
    } catch (error) {
      this.#log.debug('the receive buffer stays as it is', { error });
    }
    socket.on('message', (message, from) => {
      const reply = this.#resolver.answer(message, 'udp', from.address);
      if (reply instanceof Promise) {
        void reply.then((late) => late && sendTo(socket, late, from.port, from.address));
      } else if (reply) {
        sendTo(socket, reply, from.port, from.address);
      }
    });
  }

  async #bindTcp(scope: Scope, host: string, port: number): Promise<number> {
    const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
    scope.defer(() => void server.close());
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port, ipv6Only: true }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    server.on('error', (error) => this.#log.warn('dns socket failed', { error }));
    return (server.address() as AddressInfo).port;
  }

  #accept(socket: Socket): void {
    if (this.#clients.size >= maxTcpClients) {
      socket.destroy();
      return;
    }
    this.#clients.add(socket);
    socket.on('close', () => this.#clients.delete(socket));
    const from = socket.remoteAddress ?? '';
    serveStream(socket, {
      clock: this.#clock,
      idleMs: tcpIdleMs,
      maxInFlight: maxTcpInFlight,
      answer: (message) => this.#resolver.answer(message, 'tcp', from),
    });
  }
}

/** An answer that cannot be sent is lost, as any datagram may be; so is one to a socket closed meanwhile. */
function sendTo(socket: UdpSocket, reply: Buffer, port: number, address: string): void {
  try {
    socket.send(reply, port, address, ignored);
  } catch {
    // Closed while the question was on its way, or port zero.
  }
}
const ignored = (): void => undefined;

function closed(socket: UdpSocket): void {
  try {
    socket.close();
  } catch {
    // It never opened.
  }
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
