import type { ServerHttp2Session } from 'node:http2';
import { createContextKey } from '@connectrpc/connect';
import { formatIp, parseIp, unmapIp } from '../../base/index.ts';

/** Who is at the other end of a connection; the same value for every call and tunnel of it. */
export interface Caller {
  /** Textual; empty when it is not known. */
  readonly address: string;
}

/** In each call's context: whoever serves knows by it what came over one connection. */
export const callerKey = createContextKey<Caller>({ address: '' }, { description: 'the caller' });

const callers = new WeakMap<ServerHttp2Session, Caller>();

export function callerOf(session: ServerHttp2Session | undefined): Caller {
  if (!session) {
    return callerKey.defaultValue;
  }
  const known = callers.get(session);
  if (known) {
    return known;
  }
  const caller = { address: textOf(session.destroyed ? undefined : session.socket.remoteAddress) };
  callers.set(session, caller);
  return caller;
}

/** A listener for both families says `::ffff:10.0.0.1`. */
function textOf(address: string | undefined): string {
  const ip = parseIp(address?.split('%')[0] ?? '');
  return ip ? formatIp(unmapIp(ip)) : '';
}
