import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Clock, withTimeout } from '../../base/index.ts';
import { noHttp2Session } from '../errors.ts';
import { askNow, keepAlive, livingSession } from './alive.ts';
import { Unblocked } from './unblocked.ts';

/**
 * Windows: 4 MiB per stream under 64 MiB per connection keep 1 Gbit/s busy at 30 ms, and one stalled reader cannot
 * hold the whole connection. The default of 64 KiB gives 0.02 Gbit/s at 20 ms.
 */
export const streamWindowBytes = 4 * 1024 * 1024;
export const connectionWindowBytes = 64 * 1024 * 1024;
/** Node refuses new streams while a session holds more than this; it must exceed both windows. In MB. */
export const sessionMemoryMegabytes = 512;
export const maxStreamsPerSession = 20_000;
const openTimeoutMs = 10_000;

export interface OpenHttp2Options {
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}

/** An HTTP/2 session with our windows over a duplex or to an address, kept alive by small calls. */
export async function openHttp2(
  /** `localAddress`: which of the machine's addresses the peer is to see. */
  over: Duplex | { readonly host: string; readonly port: number; readonly localAddress?: string | undefined },
  options: OpenHttp2Options,
): Promise<ClientHttp2Session> {
  // Over a bare socket HTTP/2 would not leave the kernel's side of Node and be faster, until bulk in both directions stops it.
  const duplex = new Unblocked('host' in over ? connectTcp({ ...over, noDelay: true }) : over);
  const session = connect('http://traffic-manager', {
    createConnection: () => duplex,
    settings: { initialWindowSize: streamWindowBytes, enablePush: false },
    maxSessionMemory: sessionMemoryMegabytes,
    peerMaxConcurrentStreams: maxStreamsPerSession,
  });
  // A session without a listener for errors would end the process.
  session.on('error', () => undefined);
  duplex.on('error', () => undefined);
  try {
    await withTimeout(
      options.clock,
      openTimeoutMs,
      'opening the HTTP/2 session',
      () =>
        new Promise<void>((resolve, reject) => {
          session.once('remoteSettings', () => resolve());
          session.once('error', reject);
          session.once('close', () => reject(noHttp2Session()));
        }),
      options.signal,
    );
  } catch (error) {
    session.destroy();
    duplex.destroy();
    throw noHttp2Session(error);
  }
  session.setLocalWindowSize(connectionWindowBytes);
  keepAlive(
    livingSession(session, (answered) => askByCall(session, answered)),
    options.clock,
  );
  return session;
}

/**
 * Servers of the Go library take more than a few PINGs in five minutes for an attack, and end the session with “too
 * many pings” unless they have sent something themselves in between: what they send in answer to a call. It has no body,
 * so that it waits for no window; nobody has such a service, so that it is answered without one. (A call that is known
 * they leave open, and wait for its message.) Whatever the answer is, somebody gave it.
 */
function askByCall(session: ClientHttp2Session, answered: () => void): void {
  if (session.closed) {
    // The far side takes no new calls; those that it has go on.
    session.ping(answered);
    return;
  }
  const call = session.request(
    { ':method': 'POST', ':path': '/nearfield.Life/Ask', 'content-type': 'application/grpc', te: 'trailers' },
    { endStream: true },
  );
  call.on('error', () => undefined);
  call.once('close', () => {
    if (!session.destroyed) {
      answered();
    }
  });
  call.resume();
}

/** One PING out of turn: a session that does not answer at once is given up. */
export function pingNow(session: ClientHttp2Session, clock: Clock): void {
  askNow(livingSession(session), clock);
}
