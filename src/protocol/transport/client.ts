import type { ClientHttp2Session } from 'node:http2';
import { noHttp2Session } from '../errors.ts';
import { TunnelCall } from './stream.ts';

export const tunnelPaths = {
  manager: '/telepresence.manager.Manager/Tunnel',
  agent: '/telepresence.agent.Agent/Tunnel',
} as const;
export type TunnelService = keyof typeof tunnelPaths;

/** Opens a Tunnel call. The caller sends the stream info first and then calls `start`. Errors: `unavailable`. */
export function openTunnel(session: ClientHttp2Session, service: TunnelService): TunnelCall {
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
  return new TunnelCall(stream, false);
}
