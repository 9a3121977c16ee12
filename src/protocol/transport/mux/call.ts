import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { type Clock, withTimeout } from '../../../base/index.ts';
import { callRefused, errorCodeFromGrpc, noHttp2Session, streamBroken } from '../../errors.ts';
import { undated } from '../message.ts';
import { Mux, type OnOpen } from './mux.ts';

/** Beside the contract: who does not know it answers UNIMPLEMENTED, and is watched for dials instead. */
export const muxPath = '/nearfield.agent.Connections/Carry';
const sessionHeader = 'nearfield-session';
const maxSessionLength = 512;
const openTimeoutMs = 10_000;
const unimplemented = 12;
const permissionDenied = '7';

export interface MuxServer {
  /** Whether connections may be diverted to this session. */
  readonly isKnown: (sessionId: string) => Promise<boolean>;
  readonly onMux: (mux: Mux, sessionId: string) => void;
}

/** Serves one call. `onKnown` runs when the peer has shown who it is. */
export async function acceptMux(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { isKnown, onMux }: MuxServer,
  onKnown: () => void,
): Promise<void> {
  const sessionId = headers[sessionHeader];
  const isWelcome =
    typeof sessionId === 'string' &&
    sessionId.length <= maxSessionLength &&
    (await isKnown(sessionId).catch(() => false));
  if (stream.destroyed || stream.closed) {
    return;
  }
  const head = { ':status': 200, 'content-type': 'application/grpc+proto' };
  if (!isWelcome) {
    const refusal = { 'grpc-status': permissionDenied, 'grpc-message': 'the session is not known here' };
    stream.respond({ ...head, ...refusal }, { ...undated, endStream: true });
    return;
  }
  onKnown();
  stream.respond(head, { ...undated, waitForTrailers: true });
  stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  onMux(new Mux(stream), sessionId);
}

export interface OpenMuxOptions {
  readonly clock: Clock;
  readonly sessionId: string;
  readonly onOpen: OnOpen;
  readonly signal: AbortSignal;
}

/**
 * Asks an agent to bring connections in one stream. Undefined when it does not know how to. Errors: `unavailable`,
 * `permission_denied`.
 */
export async function openMux(
  session: ClientHttp2Session,
  { clock, sessionId, onOpen, signal }: OpenMuxOptions,
): Promise<Mux | undefined> {
  if (session.closed || session.destroyed) {
    throw noHttp2Session();
  }
  const stream = session.request(
    {
      ':method': 'POST',
      ':path': muxPath,
      'content-type': 'application/grpc+proto',
      te: 'trailers',
      [sessionHeader]: sessionId,
    },
    { endStream: false },
  );
  stream.on('error', () => undefined);
  try {
    const headers = await withTimeout(clock, openTimeoutMs, 'asking an agent', () => answerOf(stream), signal);
    const status = Number(headers['grpc-status'] ?? (Number(headers[':status']) === 404 ? unimplemented : 0));
    if (status === unimplemented) {
      stream.destroy();
      return undefined;
    }
    if (status !== 0 || Number(headers[':status']) !== 200) {
      throw callRefused(errorCodeFromGrpc(status), String(headers['grpc-message'] ?? ''));
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
