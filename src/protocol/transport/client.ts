import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import type { Transport } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { noHttp2Session } from '../errors.ts';
import { TunnelStream } from './stream.ts';

export const tunnelPaths = {
  manager: '/telepresence.manager.Manager/Tunnel',
  agent: '/telepresence.agent.Agent/Tunnel',
} as const;
export type TunnelService = keyof typeof tunnelPaths;

/** Opens a Tunnel call. The caller sends the stream info first and then calls `start`. Errors: `unavailable`. */
export function openTunnel(session: ClientHttp2Session, service: TunnelService): TunnelStream {
  if (session.closed || session.destroyed) {
    throw noHttp2Session();
  }
  const stream = session.request(
    {
      ':method': 'POST',
      ':path': tunnelPaths[service],
      'content-type': 'application/grpc+proto',
      te: 'trailers',
    },
    { endStream: false },
  );
  // Until `start` adds its own: an early failure must not end the process.
  stream.on('error', () => undefined);
  return new TunnelStream(stream, false);
}

/** Unary calls and watches over a session that is already open; it is never reopened from here. */
export function createCallTransport(session: ClientHttp2Session): Transport {
  return createGrpcTransport({
    baseUrl: 'http://traffic-manager',
    // 4 MiB is what stock peers accept; a snapshot of thousands of workloads fits.
    readMaxBytes: 64 * 1024 * 1024,
    acceptCompression: [],
    sessionManager: {
      authority: 'http://traffic-manager',
      request: async (method, path, headers, options): Promise<ClientHttp2Stream> => {
        if (session.closed || session.destroyed) {
          throw noHttp2Session();
        }
        return session.request({ ...headers, ':method': method, ':path': path }, options);
      },
      notifyResponseByteRead: () => undefined,
    },
  });
}
