import {
  createServer,
  Http2ServerRequest,
  Http2ServerResponse,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type ConnectRouter, createContextValues } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { Clock } from '../../base/index.ts';
import { type Caller, callerKey, callerOf } from './caller.ts';
import { type TunnelService, tunnelPaths } from './client.ts';
import {
  connectionWindowBytes,
  keepAlive,
  maxStreamsPerSession,
  sessionMemoryMegabytes,
  streamWindowBytes,
} from './session.ts';
import { respondGrpc, TunnelStream } from './stream.ts';

/**
 * A peer may give up all its streams at once, as when thousands of UDP flows fall silent together, and this many a
 * second for good. Beyond nghttp2's own 1,000 and 33 a second it would end the session, and with it everybody's streams.
 */
const resetsPerSecond = 5_000;

export interface GrpcServerOptions {
  readonly clock: Clock;
  readonly routes: (router: ConnectRouter) => void;
  /** Which service's Tunnel calls are handed to `acceptTunnel`. */
  readonly service: TunnelService;
  /** Must call `stream.start` before it returns. */
  readonly acceptTunnel: (stream: TunnelStream, headers: IncomingHttpHeaders, caller: Caller) => void;
}

export interface GrpcServer {
  /** Resolves with the port that is listened on. */
  listen(port: number, host?: string): Promise<number>;
  close(): Promise<void>;
}

/** Clear-text HTTP/2: calls go through the RPC library, tunnels through our own framing. */
export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  const adapter = connectNodeAdapter({
    routes: options.routes,
    grpc: true,
    grpcWeb: false,
    connect: false,
    acceptCompression: [],
    contextValues: (request) => {
      const { stream } = request as Http2ServerRequest;
      return createContextValues().set(callerKey, callerOf(stream.session as ServerHttp2Session | undefined));
    },
  });
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
    if (headers[':path'] === tunnelPath && headers[':method'] === 'POST') {
      stream.on('error', () => undefined);
      respondGrpc(stream);
      options.acceptTunnel(new TunnelStream(stream, true), headers, callerOf(stream.session as ServerHttp2Session));
    } else {
      adapter(new Http2ServerRequest(stream, headers, {}, rawHeaders), new Http2ServerResponse(stream));
    }
  });
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => undefined);
    session.setLocalWindowSize(connectionWindowBytes);
    keepAlive(session, options.clock);
    session.once('close', () => sessions.delete(session));
  });
  server.on('sessionError', () => undefined);
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
