import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { Clock, Disposable, Logger } from '../../base/index.ts';
import { relaySocket, type TunnelHandlers, type TunnelStream } from '../../protocol/transport/index.ts';
import { peerReset } from '../errors.ts';
import { serveRequests } from '../http/serve.ts';
import type { Relay } from '../relay/relay.ts';
import type { Caller, Diverter } from '../tunnel/diverter.ts';
import { discard } from '../tunnel/duplex.ts';
import { appDialTimeoutMs, appIp, dialApp } from './app.ts';
import { Copies } from './copies.ts';
import { type Diversion, emptyPlan, type PortPlan } from './diversion.ts';
import { Entrance } from './entrance.ts';
import { join } from './join.ts';
import { Said } from './said.ts';
import type { Tap } from './tap.ts';

export interface ForwarderOptions {
  readonly agentPort: number;
  readonly containerPort: number;
  readonly podIp: string;
  /** False where nobody listens behind the agent: the container was replaced. */
  readonly hasApp?: boolean;
  readonly diverter: Diverter;
  /** Carries what passes through, where there is one. */
  readonly relay?: Relay | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * One port of the application, taken over by name. It passes through, or diverts new connections while somebody
 * intercepts; when the developer's side refuses, is gone, or is lost before it has answered, the application answers.
 *
 * While somebody wants some of the requests, new connections are read as HTTP: of those, every request goes by what is
 * attached at its moment, for as long as the connection lives. All others stay where they went when they were opened.
 */
export class Forwarder implements Disposable {
  readonly #options: ForwarderOptions;
  readonly #entrance: Entrance;
  readonly #copies: Copies;
  readonly #sockets = new Set<Socket>();
  #plan: PortPlan = emptyPlan;

  constructor(options: ForwarderOptions) {
    this.#options = options;
    const { containerPort, relay, log } = options;
    this.#copies = new Copies(options, () => this.#entrance.setPassing(this.#isPassing));
    this.#entrance = new Entrance({
      // Of an application that was taken away every caller has to be told.
      relay: options.hasApp === false ? undefined : relay,
      app: { address: appIp(options), port: containerPort, timeoutMs: appDialTimeoutMs },
      log,
      onCaller: (socket) =>
        void this.#accept(socket).catch((error: unknown) => {
          // One connection's trouble is no other's.
          log.error('a connection failed', { error });
          socket.destroy();
        }),
    });
  }

  async listen(): Promise<void> {
    await this.#entrance.listen(this.#options.agentPort);
    this.#entrance.setPassing(this.#isPassing);
  }

  /** What is attached from now on. */
  apply(plan: PortPlan): void {
    const ids = idsOf(plan);
    if (ids.join() !== idsOf(this.#plan).join()) {
      this.#options.log.info(ids.length > 0 ? 'port is attached to' : 'port passes through', {
        containerPort: this.#options.containerPort,
        intercepts: ids,
      });
    }
    this.#plan = plan;
    this.#entrance.setPassing(this.#isPassing);
  }

  /** Stops accepting; what is open may end by itself until the scope's owner ends the process. */
  dispose(): void {
    this.#entrance.dispose();
    this.#copies.dispose();
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  /** Whether new connections are the application's, and nobody else's. */
  get #isPassing(): boolean {
    const { filtered, whole, taps } = this.#plan;
    const isHeard = taps.some(({ matches }) => matches) || (taps.length > 0 && !this.#copies.isFull);
    return !whole && filtered.length === 0 && !isHeard;
  }

  async #accept(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    socket.on('error', () => undefined);
    const { filtered, whole, taps } = this.#plan;
    if (filtered.length > 0 || taps.some(({ matches }) => matches)) {
      await serveRequests(socket, {
        ...this.#options,
        plan: () => this.#plan,
        caller: callerOf(socket),
        // What is not HTTP matches no filter.
        passThrough: () =>
          void this.#raw(
            socket,
            this.#plan.whole,
            this.#plan.taps.filter(({ matches }) => !matches),
          ),
      });
      return;
    }
    await this.#raw(socket, whole, taps);
  }

  async #raw(socket: Socket, whole: Diversion | undefined, taps: readonly Diversion[]): Promise<void> {
    const heard = this.#copies.isFull ? [] : taps;
    const caller = callerOf(socket);
    if (!whole && heard.length > 0) {
      const copy = this.#copied(socket);
      if (copy) {
        this.#copies.feed(copy, caller, heard);
        return;
      }
    }
    for (const tap of heard) {
      copyTo(this.#copies.open(caller, tap), socket);
    }
    if (!whole || !(await this.#divert(socket, whole))) {
      if (!socket.destroyed) {
        await this.#passThrough(socket);
      }
    }
  }

  /** The connection passes through the relay, which copies what the caller says; undefined where it cannot. */
  #copied(socket: Socket): Readable | undefined {
    const { relay, containerPort } = this.#options;
    return this.#mayLeave(socket)
      ? relay?.copy(socket, appIp(this.#options), containerPort, appDialTimeoutMs)
      : undefined;
  }

  /** There is an application, and nobody here needs the bytes. */
  #mayLeave(socket: Socket): boolean {
    return this.#options.hasApp !== false && !socket.destroyed && socket.listenerCount('data') === 0;
  }

  /** False when the application has to answer. */
  async #divert(socket: Socket, diversion: Diversion): Promise<boolean> {
    const pending = this.#options.diverter.open(callerOf(socket), diversion);
    socket.once('close', pending.cancel);
    const early = pending.stream && this.#relay(socket, pending.stream, diversion);
    const goOn = early && sayFirst(socket);
    const tunnel = await pending.taken;
    socket.off('close', pending.cancel);
    if (!tunnel) {
      early?.onClose(peerReset());
      return early !== undefined;
    }
    if (socket.destroyed) {
      discard(tunnel);
      return true;
    }
    tunnel.attach(early ?? this.#relay(socket, tunnel.stream, diversion));
    if (goOn) {
      goOn();
    } else {
      if (socket.readableEnded) {
        tunnel.stream.endSend();
      }
      socket.resume();
    }
    return true;
  }

  /** Until somebody has answered, the application can be asked in the place of a developer's side that is lost. */
  #relay(socket: Socket, stream: TunnelStream, { interceptId }: Diversion): TunnelHandlers {
    const said = new Said(socket);
    const handlers = relaySocket(socket, stream, {
      onLost: () => {
        const again = said.take();
        if (again) {
          this.#options.log.debug('the application answers in place of the developer’s side', {
            intercept: interceptId,
          });
          // When the relay has let go of it.
          queueMicrotask(() => void this.#passThrough(socket, again.length > 0 ? again : undefined));
        }
        return again !== undefined;
      },
    });
    return {
      ...handlers,
      onData(slice, last) {
        said.forget();
        handlers.onData(slice, last);
      },
    };
  }

  /** `said` was read from the caller already, and may be all of it. */
  async #passThrough(socket: Socket, said?: Buffer): Promise<void> {
    const { clock, containerPort, relay } = this.#options;
    const mayLeave = said === undefined && this.#mayLeave(socket);
    if (mayLeave && relay?.pass(socket, appIp(this.#options), containerPort, appDialTimeoutMs)) {
      return;
    }
    const app = await dialApp(clock, this.#options);
    if (!app) {
      socket.resetAndDestroy();
      return;
    }
    if (socket.destroyed) {
      app.destroy();
      return;
    }
    if (said && said.length > 0) {
      app.write(said);
    }
    join(socket, app);
    if (socket.readableEnded) {
      app.end();
    }
    socket.resume();
  }
}

const idsOf = ({ filtered, whole, taps }: PortPlan): string[] =>
  [...filtered, ...(whole ? [whole] : []), ...taps].map(({ interceptId }) => interceptId);

export const callerOf = (socket: Socket): Caller => ({
  protocol: 'tcp',
  address: socket.remoteAddress,
  port: socket.remotePort,
});

/**
 * Has a caller say one chunk, and no more until the function that is answered says so: it can be said again to the
 * application (`maxReplayBytes`).
 */
function sayFirst(socket: Socket): () => void {
  const wait = (): void => void socket.pause();
  socket.once('data', wait);
  socket.resume();
  return () => {
    socket.off('data', wait);
    socket.resume();
  };
}

/** The socket stays paused until its reader resumes it; the copy sees what the reader sees. */
function copyTo(tap: Tap, socket: Socket): void {
  socket.on('data', (chunk: Buffer) => tap.write(chunk));
  socket.once('end', () => tap.end());
  socket.once('close', () => tap.end());
}
