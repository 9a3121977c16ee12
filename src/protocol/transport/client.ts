import type { ClientHttp2Session, ClientHttp2Stream, OutgoingHttpHeaders } from 'node:http2';
import { noHttp2Session } from '../errors.ts';
import { type StreamInfo, serializeStreamInfo, tunnelCode } from '../tunnel/index.ts';
import { TunnelCall, type TunnelStream } from './stream.ts';

export const tunnelPaths = {
  manager: '/telepresence.manager.Manager/Tunnel',
  agent: '/telepresence.agent.Agent/Tunnel',
} as const;
export type TunnelService = keyof typeof tunnelPaths;

/** Opens a Tunnel call. The caller sends the stream info first and then calls `start`. Errors: `unavailable`. */
export function openTunnel(session: ClientHttp2Session, service: TunnelService): TunnelCall {
  return new TunnelCall(openCall(session, tunnelPaths[service]), false);
}

/** Where tunnels begin: a connection that many share, or a call for each. */
export interface TunnelOpener {
  /**
   * Undefined when no more are taken here. `isFollowed`: its first bytes may be here in the next turn of the loop; then they
   * leave together, and wake everybody on their way once.
   */
  open(info: StreamInfo, isFollowed?: boolean): TunnelStream | undefined;
}

/** Those of one session at a peer. */
export interface TunnelOrigin {
  readonly tunnels: TunnelOpener;
  readonly sessionId: string;
}

/** A call for each, as the contract has it. */
export function tunnelCalls(session: ClientHttp2Session, service: TunnelService): TunnelOpener {
  return {
    open(info, isFollowed) {
      if (session.closed || session.destroyed) {
        return undefined;
      }
      const stream = openTunnel(session, service);
      const body = serializeStreamInfo(info);
      if (isFollowed) {
        stream.sendWithNext(tunnelCode.streamInfo, body);
      } else {
        stream.send(tunnelCode.streamInfo, body);
      }
      return stream;
    },
  };
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
