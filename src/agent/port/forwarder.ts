import { createServer, type Server, type Socket } from 'node:net';
import { type Clock, type Disposable, type Logger, parseIp } from '../../base/index.ts';
import { dialTcp } from '../../protocol/transport/index.ts';
import type { Relay } from '../relay/relay.ts';
import type { DialOutcomeForSocket, Diverter } from '../tunnel/diverter.ts';
import type { Diversion } from './diversion.ts';

export interface ForwarderOptions {
  readonly agentPort: number;
  readonly containerPort: number;
  readonly podIp: string;
  readonly diverter: Diverter;
  /** Carries what passes through, where there is one. */
  readonly relay?: Relay | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

const appDialTimeoutMs = 5_000;
const backlog = 4_096;

/**
 * One port of the application, taken over by name. It passes through, or diverts new connections while somebody
 * intercepts; when the developer's side refuses or is gone, the application answers. A connection is never lost.
 */
export class Forwarder implements Disposable {
  readonly #options: ForwarderOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #diversion: Diversion | undefined;

  constructor(options: ForwarderOptions) {
    this.#options = options;
    // Paused: nothing is read before it is known who reads it.
    this.#server = createServer(
      { allowHalfOpen: true, pauseOnConnect: true, noDelay: true },
      (socket) => void this.#accept(socket),
    );
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      // Without a host both families are served, or one where the node has no IPv6.
      this.#server.listen({ port: this.#options.agentPort, backlog }, () => resolve());
    });
  }

  /** Applies to new connections; those that are open stay where they are. */
  divert(diversion: Diversion | undefined): void {
    if (this.#diversion?.interceptId !== diversion?.interceptId) {
      this.#options.log.info(diversion ? 'port is diverted' : 'port passes through', {
        containerPort: this.#options.containerPort,
        intercept: diversion?.interceptId,
      });
    }
    this.#diversion = diversion;
  }

  /** Stops accepting; what is open may end by itself until the scope's owner ends the process. */
  dispose(): void {
    this.#server.close();
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  async #accept(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', () => undefined);
    const diversion = this.#diversion;
    const outcome: DialOutcomeForSocket = diversion ? await this.#options.diverter.divert(socket, diversion) : 'pass';
    if (outcome === 'pass' && !socket.destroyed) {
      await this.#passThrough(socket);
    }
  }

  async #passThrough(socket: Socket): Promise<void> {
    const { clock, podIp, containerPort, relay } = this.#options;
    const address = parseIp(podIp) ?? Uint8Array.of(127, 0, 0, 1);
    if (relay?.pass(socket, address, containerPort, appDialTimeoutMs)) {
      return;
    }
    const outcome = await dialTcp(clock, address, containerPort, appDialTimeoutMs);
    if (outcome.result !== 'ok') {
      socket.resetAndDestroy();
      return;
    }
    if (socket.destroyed) {
      outcome.socket.destroy();
      return;
    }
    joinSockets(socket, outcome.socket);
    socket.resume();
  }
}

/** Two sockets as one, with half-close and reset kept apart. */
function joinSockets(a: Socket, b: Socket): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.pipe(to);
    from.on('error', () => to.resetAndDestroy());
    from.once('close', () => {
      if (!from.readableEnded && !to.destroyed) {
        to.resetAndDestroy();
      }
    });
  }
}
