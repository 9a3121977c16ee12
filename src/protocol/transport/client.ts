import type { ClientHttp2Session, ClientHttp2Stream, OutgoingHttpHeaders } from 'node:http2';
import { noHttp2Session } from '../errors.ts';
import { TunnelCall } from './stream.ts';

export const tunnelPaths = {
  manager: '/telepresence.manager.Manager/Tunnel',
  agent: '/telepresence.agent.Agent/Tunnel',
} as const;
export type TunnelService = keyof typeof tunnelPaths;

/** Opens a Tunnel call. The caller sends the stream info first and then calls `start`. Errors: `unavailable`. */
export function openTunnel(session: ClientHttp2Session, service: TunnelService): TunnelCall {
  return new TunnelCall(openCall(session, tunnelPaths[service]), false);
}

/** A call of gRPC whose request goes on. Errors: `unavailable`. */
export function openCall(session: ClientHttp2Session, path: string, more: OutgoingHttpHeaders = {}): ClientHttp2Stream {
  if (session.closed || session.destroyed) {
    throw noHttp2Session();
  }
  const stream = session.request(
    { ':method': 'POST', ':path': path, 'content-type': 'application/grpc+proto', te: 'trailers', ...more },
    { endStream: false },
  );
  // Until somebody else listens: an early failure must not end the process.
  stream.on('error', () => undefined);
  return stream;
}
