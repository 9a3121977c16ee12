import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { type Clock, withTimeout } from '../../../base/index.ts';
import { errorOfConnect, streamBroken } from '../../errors.ts';
import type { StreamInfo } from '../../tunnel/index.ts';
import { Answer } from '../answer.ts';
import type { Caller } from '../caller.ts';
import { statusOf } from '../calls.ts';
import { openCall, type TunnelService } from '../client.ts';
import { beginAnswer } from '../message.ts';
import type { MuxConnection } from './connection.ts';
import { Mux, type OnOpen } from './mux.ts';

/** Beside the contract: who does not know it answers UNIMPLEMENTED, and gets a call for each connection instead. */
export const muxPaths = {
  manager: '/nearfield.manager.Connections/Carry',
  agent: '/nearfield.agent.Connections/Carry',
} as const satisfies Record<TunnelService, string>;
const sessionHeader = 'nearfield-session';
const maxSessionLength = 512;
const openTimeoutMs = 10_000;

/** Who asks for connections in one stream, as far as it says so. */
export interface MuxGuest {
  readonly sessionId: string;
  readonly caller: Caller;
  readonly authorization: string | undefined;
}

export interface MuxServer {
  /** Whether this session may have its connections in one stream. */
  readonly isKnown: (guest: MuxGuest) => boolean | Promise<boolean>;
  /** The guest has opened a connection. Without it only this end opens them. Must call `start` sooner or later. */
  readonly onOpen?: (connection: MuxConnection, info: StreamInfo, guest: MuxGuest) => void;
  /** The stream stands. */
  readonly onMux?: (mux: Mux, guest: MuxGuest) => void;
}

/** Serves one call. `onKnown` runs when the peer has shown who it is. */
export async function acceptMux(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  caller: Caller,
  { isKnown, onOpen, onMux }: MuxServer,
  onKnown: () => void,
): Promise<void> {
  const { [sessionHeader]: sessionId, authorization } = headers;
  const guest = typeof sessionId === 'string' ? { sessionId, caller, authorization } : undefined;
  const isWelcome =
    guest !== undefined && guest.sessionId.length <= maxSessionLength && (await isAllowed(() => isKnown(guest)));
  if (stream.destroyed || stream.closed) {
    return;
  }
  if (!isWelcome) {
    new Answer(stream).end(new ConnectError('the session is not known here', Code.PermissionDenied));
    return;
  }
  onKnown();
  beginAnswer(stream);
  stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  const mux = new Mux(stream, onOpen && ((connection, info) => onOpen(connection, info, guest)));
  onMux?.(mux, guest);
}

async function isAllowed(ask: () => boolean | Promise<boolean>): Promise<boolean> {
  try {
    return await ask();
  } catch {
    return false;
  }
}

export interface OpenMuxOptions {
  readonly clock: Clock;
  readonly service: TunnelService;
  readonly sessionId: string;
  /** Takes what the server opens. Without it only this end opens connections. */
  readonly onOpen?: OnOpen;
  readonly signal: AbortSignal;
}

/**
 * Asks for one stream for many connections. Undefined when the server does not know how to. Errors: `unavailable`,
 * `permission_denied`.
 */
export async function openMux(
  session: ClientHttp2Session,
  { clock, service, sessionId, onOpen, signal }: OpenMuxOptions,
): Promise<Mux | undefined> {
  const what = 'asking for connections in one stream';
  const stream = openCall(session, muxPaths[service], { [sessionHeader]: sessionId });
  try {
    const headers = await withTimeout(clock, openTimeoutMs, what, () => answerOf(stream), signal);
    const status = statusOf(headers);
    if (status instanceof ConnectError) {
      if (status.code === Code.Unimplemented) {
        stream.destroy();
        return undefined;
      }
      throw errorOfConnect(what, status);
    }
    return new Mux(stream, onOpen);
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

const answerOf = (stream: ClientHttp2Stream): Promise<IncomingHttpHeaders> =>
  new Promise((resolve, reject) => {
    stream.once('response', resolve);
    stream.once('close', () => reject(streamBroken('the connection ended')));
  });
