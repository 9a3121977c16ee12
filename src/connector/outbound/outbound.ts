import { createServer, type Server, type Socket } from 'node:net';
import { type Disposable, formatIp, type IpBytes, type Logger, parseIp, unmapIp } from '../../base/index.ts';
import type { ConnId, DialFrame, DialQuestion, DialResult } from '../../protocol/index.ts';
import type { DaemonLink } from '../daemon-link/link.ts';
import {
  Cancellation,
  type ClusterConnection,
  ClusterDialer,
  type ClusterDialerDeps,
  type ClusterOutcome,
  type UdpFlow,
} from './dial.ts';

export interface OutboundDeps extends ClusterDialerDeps {
  readonly daemon: Pick<DaemonLink, 'send' | 'onFrameReceived'>;
  readonly log: Logger;
  /** What an address really is, where others stand in; undefined for one that stands for nothing. */
  readonly toReal: (ip: IpBytes) => IpBytes | undefined;
  /** A name's records, uncompressed; never rejects. */
  readonly lookup: (name: string, qtype: number) => Promise<{ readonly rcode: number; readonly records: Uint8Array }>;
}

/**
 * After a yes, the kernel connects within microseconds, unless thousands come at once and its queue is full: then it
 * tries again after 1, 2, 4 and 8 seconds while the program takes itself for connected. What does not come is given up.
 */
const acceptTimeoutMs = 20_000;
const backlog = 4_096;
const servfail = 2;

interface Waiting {
  readonly id: number;
  readonly connection: ClusterConnection;
  readonly timer: Disposable;
}

/**
 * A local program's way into the cluster: answers the daemon's questions by opening tunnels, and accepts the
 * connections that the daemon has let in. A connection that nobody waits for is destroyed: any local user can reach
 * the listener.
 */
export class Outbound implements Disposable {
  readonly #deps: OutboundDeps;
  readonly #waiting = new Map<string, Waiting>();
  readonly #udp = new Map<number, UdpFlow>();
  /** What gives up a TCP dial that has not become a connection. */
  readonly #cancels = new Map<number, () => void>();
  readonly #dialer: ClusterDialer;
  readonly #servers: Server[] = [];
  readonly #subscription: Disposable;
  #isDisposed = false;

  constructor(deps: OutboundDeps) {
    this.#deps = deps;
    this.#dialer = new ClusterDialer(deps);
    this.#subscription = deps.daemon.onFrameReceived((frame) => this.#handle(frame));
  }

  /** Listens on one of the device's own addresses; resolves with the port. */
  listen(address: string): Promise<number> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) =>
      this.#accept(socket),
    );
    this.#servers.push(server);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: address, port: 0, backlog }, () => {
        const bound = server.address();
        resolve(typeof bound === 'object' && bound ? bound.port : 0);
      });
    });
  }

  dispose(): void {
    this.#isDisposed = true;
    this.#dialer.dispose();
    void this.#subscription.dispose();
    for (const server of this.#servers) {
      server.close();
    }
    for (const key of [...this.#waiting.keys()]) {
      this.#forget(key)?.connection.reset();
    }
    for (const flow of this.#udp.values()) {
      flow.close();
    }
  }

  #handle(frame: DialFrame): void {
    switch (frame.type) {
      case 'dial':
        if (frame.protocol === 'udp') {
          this.#startUdp(frame);
        } else {
          void this.#startTcp(frame);
        }
        break;
      case 'datagram':
        // A copy: the frame's bytes are reused, and the stream may keep them a while.
        this.#udp.get(frame.id)?.send(Uint8Array.from(frame.payload));
        break;
      case 'close':
        this.#udp.get(frame.id)?.close();
        this.#udp.delete(frame.id);
        this.#cancels.get(frame.id)?.();
        break;
      case 'lookup':
        void this.#lookup(frame.id, frame.name, frame.qtype);
        break;
      default:
        break;
    }
  }

  async #lookup(id: number, name: string, qtype: number): Promise<void> {
    const { rcode, records } = await this.#deps
      .lookup(name, qtype)
      .catch(() => ({ rcode: servfail, records: new Uint8Array(0) }));
    this.#deps.daemon.send({ type: 'lookup-answer', id, rcode, records });
  }

  async #startTcp(question: DialQuestion): Promise<void> {
    const { id } = question;
    const cancellation = new Cancellation();
    this.#cancels.set(id, () => cancellation.cancel());
    const target = this.#connIdOf(question);
    const outcome: ClusterOutcome = target ? await this.#dialer.dial(target, cancellation) : { result: 'unreachable' };
    this.#cancels.delete(id);
    if (outcome.result === 'ok' && (this.#isDisposed || cancellation.isCancelled)) {
      outcome.connection.reset();
    } else if (outcome.result === 'ok') {
      this.#expect(question, outcome.connection);
    }
    this.#answer(id, outcome.result);
  }

  #answer(id: number, result: DialResult): void {
    this.#deps.daemon.send({ type: 'answer', id, result });
  }

  /** Waits for the socket that the daemon's yes lets in. */
  #expect(question: DialQuestion, connection: ClusterConnection): void {
    const { id } = question;
    const key = keyOf(formatIp(question.destination), question.peerPort);
    const giveUp = (): void => {
      this.#forget(key)?.connection.reset();
      this.#closed(id);
    };
    this.#forget(key)?.connection.reset();
    const timer = this.#deps.clock.after(acceptTimeoutMs, giveUp);
    this.#cancels.set(id, giveUp);
    this.#waiting.set(key, { id, connection, timer });
  }

  #accept(socket: Socket): void {
    socket.on('error', () => undefined);
    const key = keyOf(addressOf(socket), socket.remotePort ?? 0);
    const waiting = this.#forget(key);
    if (!waiting) {
      this.#deps.log.debug('a connection that nobody waits for was destroyed');
      socket.destroy();
      return;
    }
    waiting.connection.join(socket, () => this.#closed(waiting.id));
    socket.resume();
  }

  #forget(key: string): Waiting | undefined {
    const waiting = this.#waiting.get(key);
    if (waiting) {
      this.#waiting.delete(key);
      this.#cancels.delete(waiting.id);
      void waiting.timer.dispose();
    }
    return waiting;
  }

  /** The daemon ties its entry to the stream. */
  #closed(id: number): void {
    this.#deps.daemon.send({ type: 'close', id });
  }

  #connIdOf({ protocol, source, sourcePort, destination, destinationPort }: DialQuestion): ConnId | undefined {
    const real = this.#deps.toReal(destination);
    return real && { protocol, source, sourcePort, destination: real, destinationPort };
  }

  #startUdp(question: DialQuestion): void {
    const { id } = question;
    const target = this.#connIdOf(question);
    const flow =
      target &&
      this.#dialer.openUdp(target, {
        onOpened: (result) => {
          if (result !== 'ok') {
            this.#udp.delete(id);
          }
          this.#answer(id, result);
        },
        onDatagram: (payload) => this.#deps.daemon.send({ type: 'datagram', id, payload }),
        onClosed: () => {
          this.#udp.delete(id);
          this.#deps.daemon.send({ type: 'close', id });
        },
      });
    if (flow) {
      this.#udp.set(id, flow);
    } else {
      this.#answer(id, 'unreachable');
    }
  }
}

/** As `formatIp` writes it, which an address of IPv4 is already. */
function addressOf({ remoteAddress = '' }: Socket): string {
  const ip = remoteAddress.includes(':') ? parseIp(remoteAddress) : undefined;
  return ip ? formatIp(unmapIp(ip)) : remoteAddress;
}

const keyOf = (address: string, port: number): string => `${address} ${port}`;
