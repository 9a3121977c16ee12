import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { Code, ConnectError } from '@connectrpc/connect';
import { type Clock, withTimeout } from '../../../base/index.ts';
import { errorOfConnect, streamBroken } from '../../errors.ts';
import { Answer } from '../answer.ts';
import { statusOf } from '../calls.ts';
import { openCall } from '../client.ts';
import { answerHead, undated } from '../message.ts';
import { Mux, type OnOpen } from './mux.ts';

/** Beside the contract: who does not know it answers UNIMPLEMENTED, and is watched for dials instead. */
export const muxPath = '/nearfield.agent.Connections/Carry';
const sessionHeader = 'nearfield-session';
const maxSessionLength = 512;
const openTimeoutMs = 10_000;

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
  if (!isWelcome) {
    new Answer(stream).end(new ConnectError('the session is not known here', Code.PermissionDenied));
    return;
  }
  onKnown();
  stream.respond(answerHead, { ...undated, waitForTrailers: true });
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
  const stream = openCall(session, muxPath, { [sessionHeader]: sessionId });
  try {
    const headers = await withTimeout(clock, openTimeoutMs, 'asking an agent', () => answerOf(stream), signal);
    const status = statusOf(headers);
    if (status instanceof ConnectError) {
      if (status.code === Code.Unimplemented) {
        stream.destroy();
        return undefined;
      }
      throw errorOfConnect('asking an agent', status);
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
