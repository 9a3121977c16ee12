import {
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { Clock, Disposable, Logger } from '../../base/index.ts';
import { keepAlive, livingSession } from './alive.ts';
import { type Caller, callerOf, setCaller } from './caller.ts';
import { type TunnelService, tunnelPaths } from './client.ts';
import { createEntrance } from './entrance.ts';
import { Guests, type Leave } from './guests.ts';
import { Handlers, type ServiceRouter } from './handlers.ts';
import { cancelCode } from './message.ts';
import { acceptMux, type MuxServer } from './mux/ends.ts';
import { connectionWindowBytes, maxStreamsPerSession, sessionMemoryMegabytes, streamWindowBytes } from './session.ts';
import { TunnelCall } from './stream.ts';

/**
 * A peer may give up all its streams at once, as when thousands of UDP flows fall silent together, and this many a
 * second for good. Beyond nghttp2's own 1,000 and 33 a second it would end the session, and with it everybody's streams.
 */
const resetsPerSecond = 5_000;
/** What stock peers accept and send; the largest of a client's own tells what it holds after a restart. */
const maxRequestBytes = 4 * 1024 * 1024;
/** For a whole request, and for a tunnel to say whose it is. */
const firstWordMs = 15_000;
/** NGHTTP2_REFUSED_STREAM: nothing was done, which gRPC reads as “unavailable”. */
const refusedCode = 7;

export interface GrpcServerOptions {
  readonly clock: Clock;
  readonly routes: (router: ServiceRouter) => void;
  /** Which service's Tunnel calls are handed to `acceptTunnel`. */
  readonly service: TunnelService;
  /** Must call `stream.start` before it returns. */
  readonly acceptTunnel: (stream: TunnelCall, headers: IncomingHttpHeaders, caller: Caller) => void;
  /** Who may have many connections in one, where that is done at all. */
  readonly mux?: MuxServer;
  readonly log?: Logger;
}

export interface GrpcServer {
  /** Resolves with the port that is listened on. */
  listen(port: number, host?: string): Promise<number>;
  close(): Promise<void>;
}

/** Clear-text HTTP/2: calls and tunnels have a framing of our own. */
export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  const handlers = new Handlers(options.clock, maxRequestBytes);
  options.routes(handlers);
  const guests = new Guests(options);
  const tunnelPath = tunnelPaths[options.service];
  const sessions = new Set<ServerHttp2Session>();
  const carriers = new Set<Socket>();
  const serve = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void => {
    stream.on('error', () => undefined);
    const caller = callerOf(stream.session as ServerHttp2Session | undefined);
    const isTunnel = headers[':method'] === 'POST' && headers[':path'] === tunnelPath;
    const guard = StreamGuard.admit(stream, {
      caller,
      guests,
      clock: options.clock,
      what: isTunnel ? 'tunnels' : 'calls',
    });
    if (!guard) {
      stream.close(refusedCode);
    } else if (isTunnel) {
      options.acceptTunnel(new TunnelCall(stream, true, () => guard.release()), headers, caller);
    } else {
      stream.once('end', () => guard.heard());
      serveLater(stream, headers, caller);
    }
  };
  // Who opens calls by the thousand and takes them back in the same breath costs no more than the streams.
  const serveLater = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, caller: Caller): void => {
    setImmediate(() => {
      if (!stream.destroyed && !stream.closed) {
        const bytes = stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
        const read = () => guests.metered(bytes, caller, () => stream.close(refusedCode));
        handlers.serve({ stream, headers, caller, read });
      }
    });
  };
  const begin = (socket: Socket, caller: Caller): void => {
    const session = performServerHandshake(socket, {
      settings: { initialWindowSize: streamWindowBytes, maxConcurrentStreams: maxStreamsPerSession },
      maxSessionMemory: sessionMemoryMegabytes,
      streamResetBurst: maxStreamsPerSession,
      streamResetRate: resetsPerSecond,
    });
    setCaller(session, caller);
    sessions.add(session);
    session.on('stream', serve);
    session.on('error', (error: NodeJS.ErrnoException) => {
      // Who hangs up is no stranger for that.
      if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') {
        guests.note('a connection that is not well-formed', caller, { error: error.code ?? error.message });
      }
    });
    session.setLocalWindowSize(connectionWindowBytes);
    keepAlive(livingSession(session), options.clock);
    session.once('close', () => sessions.delete(session));
  };
  const carry = (socket: Socket, caller: Caller, isGreeted: boolean): void => {
    const onRefused = (why: string): void => guests.note(why, caller);
    if (!options.mux) {
      onRefused('connections in one, which are not served here');
      socket.destroy();
      return;
    }
    carriers.add(socket);
    socket.once('close', () => carriers.delete(socket));
    void acceptMux(socket, options.mux, { clock: options.clock, caller, firstWordMs, isGreeted, onRefused });
  };
  const { server, endArriving } = createEntrance({
    clock: options.clock,
    guests,
    firstWordMs,
    onHttp2: begin,
    onMux: carry,
  });
  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, host, () => {
          server.off('error', reject);
          server.on('error', () => undefined);
          resolve((server.address() as AddressInfo).port);
        });
      }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const session of sessions) {
          session.destroy();
        }
        for (const socket of carriers) {
          socket.destroy();
        }
        endArriving();
      }),
  };
}

interface GuardDeps {
  readonly caller: Caller;
  readonly guests: Guests;
  readonly clock: Clock;
  readonly what: 'tunnels' | 'calls';
}

/**
 * What a stream holds of the server while it is open. A watch lasts for days, and there are thousands: nothing here knows
 * its headers, or what else was needed for its first second only.
 */
class StreamGuard {
  readonly #leave: Leave;
  #limit: Disposable | undefined;

  /** Undefined: one too many. */
  static admit(stream: ServerHttp2Stream, { caller, guests, clock, what }: GuardDeps): StreamGuard | undefined {
    const leave = guests.stream(caller, what);
    if (!leave) {
      return undefined;
    }
    const limit = clock.after(firstWordMs, () => {
      guests.note('a call that says nothing', caller);
      stream.close(cancelCode);
    });
    const guard = new StreamGuard(leave, limit);
    stream.once('close', () => guard.release());
    return guard;
  }

  private constructor(leave: Leave, limit: Disposable) {
    this.#leave = leave;
    this.#limit = limit;
  }

  /** The request has come to its end. */
  heard(): void {
    void this.#limit?.dispose();
    this.#limit = undefined;
  }

  release(): void {
    this.heard();
    this.#leave();
  }
}
