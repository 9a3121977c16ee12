import {
  constants,
  createServer,
  Http2ServerRequest,
  Http2ServerResponse,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type ConnectRouter, createContextValues } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { Clock, Disposable, Logger } from '../../base/index.ts';
import { type Caller, callerKey, callerOf } from './caller.ts';
import { type TunnelService, tunnelPaths } from './client.ts';
import { Guests } from './guests.ts';
import {
  connectionWindowBytes,
  keepAlive,
  maxStreamsPerSession,
  sessionMemoryMegabytes,
  streamWindowBytes,
} from './session.ts';
import { TunnelStream } from './stream.ts';
import { Watches } from './watches.ts';

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
const cancelCode = 8;

/**
 * The library makes a URL of a request, and throws for an authority that is in none; stock clients name the pod's uid
 * there, behind an escaped `#`. Whom a peer takes us for says nothing: it came by a port-forward.
 */
const authority = 'nearfield';

export interface GrpcServerOptions {
  readonly clock: Clock;
  readonly routes: (router: ConnectRouter) => void;
  /** Which service's Tunnel calls are handed to `acceptTunnel`. */
  readonly service: TunnelService;
  /** Must call `stream.start` before it returns. */
  readonly acceptTunnel: (stream: TunnelStream, headers: IncomingHttpHeaders, caller: Caller) => void;
  readonly log?: Logger;
}

export interface GrpcServer {
  /** Resolves with the port that is listened on. */
  listen(port: number, host?: string): Promise<number>;
  close(): Promise<void>;
}

/** Clear-text HTTP/2: calls go through the RPC library, tunnels through our own framing. */
export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  const watches = new Watches(options.clock, maxRequestBytes);
  const adapter = connectNodeAdapter({
    routes: (router) => options.routes(watches.listen(router)),
    grpc: true,
    grpcWeb: false,
    connect: false,
    acceptCompression: [],
    readMaxBytes: maxRequestBytes,
    contextValues: (request) => {
      const { stream } = request as Http2ServerRequest;
      return createContextValues().set(callerKey, callerOf(stream.session as ServerHttp2Session | undefined));
    },
  });
  const guests = new Guests(options);
  const tunnelPath = tunnelPaths[options.service];
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer({
    settings: { initialWindowSize: streamWindowBytes, maxConcurrentStreams: maxStreamsPerSession },
    maxSessionMemory: sessionMemoryMegabytes,
    streamResetBurst: maxStreamsPerSession,
    streamResetRate: resetsPerSecond,
  });
  // Tunnels never meet the request and response objects of Node's compatibility layer: they cost a third of a connection.
  server.on('stream', (stream, headers, _flags, rawHeaders) => {
    stream.on('error', () => undefined);
    const caller = callerOf(stream.session as ServerHttp2Session | undefined);
    const isTunnel = headers[':path'] === tunnelPath && headers[':method'] === 'POST';
    const leave = guests.stream(caller, isTunnel ? 'tunnels' : 'calls');
    if (!leave) {
      stream.close(refusedCode);
      return;
    }
    let limit: Disposable | undefined = options.clock.after(firstWordMs, () => {
      guests.note('a call that says nothing', caller);
      stream.close(cancelCode);
    });
    // A watch lasts for days: what was needed for its first second is not kept.
    const heard = (): void => {
      void limit?.dispose();
      limit = undefined;
    };
    const done = (): void => {
      heard();
      leave();
    };
    stream.once('close', done);
    if (isTunnel) {
      options.acceptTunnel(new TunnelStream(stream, true, done), headers, caller);
    } else {
      stream.once('end', heard);
      // Who opens calls by the thousand and takes them back in the same breath costs no more than the streams.
      setImmediate(() => {
        if (stream.destroyed || stream.closed) {
          return;
        }
        if (watches.has(headers)) {
          const read = () =>
            guests.metered(stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>, caller, () =>
              stream.close(refusedCode),
            );
          watches.serve({ stream, headers, caller, read });
          return;
        }
        try {
          const known = { ...headers, ':authority': authority };
          adapter(new MeteredRequest(stream, known, rawHeaders, guests), new Http2ServerResponse(stream));
        } catch {
          // A path can be as wrong as an authority.
          stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
        }
      });
    }
  });
  server.on('session', (session) => {
    const caller = callerOf(session);
    const leave = guests.session(caller);
    session.on('error', () => undefined);
    if (!leave) {
      session.destroy();
      return;
    }
    sessions.add(session);
    session.setLocalWindowSize(connectionWindowBytes);
    keepAlive(session, options.clock);
    session.once('close', () => {
      leave();
      sessions.delete(session);
    });
  });
  server.on('sessionError', (error: NodeJS.ErrnoException, session) => {
    // Who hangs up is no stranger for that.
    if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') {
      guests.note('a connection that is not well-formed', callerOf(session), { error: error.code ?? error.message });
    }
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
      }),
  };
}

/** A request whose body counts while it is on its way. */
class MeteredRequest extends Http2ServerRequest {
  readonly #guests: Guests;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: readonly string[], guests: Guests) {
    super(stream, headers, {}, rawHeaders);
    this.#guests = guests;
  }

  override [Symbol.asyncIterator](): NodeJS.AsyncIterator<Buffer> {
    const caller = callerOf(this.stream.session as ServerHttp2Session | undefined);
    const chunks = { [Symbol.asyncIterator]: () => super[Symbol.asyncIterator]() as NodeJS.AsyncIterator<Buffer> };
    return this.#guests.metered(chunks, caller, () => this.stream.close(refusedCode));
  }
}
