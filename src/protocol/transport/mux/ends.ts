import type { Duplex } from 'node:stream';
import { Code } from '@connectrpc/connect';
import { type Clock, withTimeout } from '../../../base/index.ts';
import { callRefused, errorCodeFromGrpc } from '../../errors.ts';
import type { StreamInfo } from '../../tunnel/index.ts';
import type { Caller } from '../caller.ts';
import type { MuxConnection } from './connection.ts';
import { Mux, type OnOpen } from './mux.ts';
import { answerSchema, type HelloAnswer, helloSchema, muxPreface, openingBody, readOpening } from './opening.ts';

const openTimeoutMs = 10_000;

/** Who asks for connections in one, as far as it says so. */
export interface MuxGuest {
  readonly sessionId: string;
  readonly caller: Caller;
  readonly authorization: string | undefined;
}

export interface MuxServer {
  /** Whether this session may have its connections in one. */
  readonly isKnown: (guest: MuxGuest) => boolean | Promise<boolean>;
  /** The guest has opened a connection. Must call `start` sooner or later. */
  readonly onOpen: (connection: MuxConnection, info: StreamInfo, guest: MuxGuest) => void;
  /** It stands. */
  readonly onMux?: (mux: Mux, guest: MuxGuest) => void;
}

export interface AcceptMuxDeps {
  readonly clock: Clock;
  readonly caller: Caller;
  /** For the guest to say who it is. */
  readonly firstWordMs: number;
  /** The preface has left already. */
  readonly isGreeted: boolean;
  /** The guest was none. */
  readonly onRefused: (why: string) => void;
}

/** Serves a connection that has begun with the preface, and ends it when the guest is not welcome. */
export async function acceptMux(
  duplex: Duplex,
  { isKnown, onOpen, onMux }: MuxServer,
  { clock, caller, firstWordMs, isGreeted, onRefused }: AcceptMuxDeps,
): Promise<void> {
  const refuse = (why: string): void => {
    onRefused(why);
    duplex.destroy();
  };
  const limit = clock.after(firstWordMs, () => refuse('a connection that does not say whose it is'));
  const hello = await readOpening(duplex, helloSchema);
  void limit.dispose();
  if (hello === 'gone' || duplex.destroyed) {
    // Nobody needed it after all.
    duplex.destroy();
    return;
  }
  if (hello === 'malformed') {
    refuse('a connection that is not well-formed');
    return;
  }
  const guest = { sessionId: hello.session, authorization: hello.authorization, caller };
  const isWelcome = await isAllowed(() => isKnown(guest));
  if (duplex.destroyed) {
    return;
  }
  const answer: HelloAnswer = isWelcome
    ? {}
    : { code: Code.PermissionDenied, message: 'the session is not known here' };
  const body = openingBody(answer);
  duplex.write(isGreeted ? body : Buffer.concat([muxPreface, body]));
  if (isWelcome) {
    const mux = new Mux(duplex, { side: 'server', clock, onOpen: (each, info) => onOpen(each, info, guest) });
    onMux?.(mux, guest);
  } else {
    onRefused('a session that is not known');
    duplex.end();
    const leaving = clock.after(firstWordMs, () => duplex.destroy());
    duplex.once('close', () => void leaving.dispose());
  }
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
  readonly sessionId: string;
  readonly authorization?: string | undefined;
  /** Takes what the server opens. Without it only this end opens connections. */
  readonly onOpen?: OnOpen;
  readonly signal: AbortSignal;
}

/**
 * Asks the peer at the other end for many connections in this one, which belongs to the `Mux` then. Undefined, and ended, when
 * the peer does not know how to. Errors: `permission_denied`, `deadline_exceeded`, `cancelled`; it is ended then, too.
 */
export async function openMux(
  duplex: Duplex,
  { clock, sessionId, authorization, onOpen, signal }: OpenMuxOptions,
): Promise<Mux | undefined> {
  const what = 'asking for connections in one';
  duplex.on('error', () => undefined);
  try {
    duplex.write(Buffer.concat([muxPreface, openingBody({ session: sessionId, authorization })]));
    const answer = await withTimeout(clock, openTimeoutMs, what, () => readOpening(duplex, answerSchema), signal);
    if (answer === 'malformed' || answer === 'gone') {
      duplex.destroy();
      return undefined;
    }
    if (answer.code) {
      throw callRefused(errorCodeFromGrpc(answer.code), answer.message ?? '');
    }
    return new Mux(duplex, { side: 'client', clock, onOpen });
  } catch (error) {
    duplex.destroy();
    throw error;
  }
}
