import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import { createContextKey } from '@connectrpc/connect';
import { formatIp, parseIp, unmapIp } from '../../base/index.ts';

/** Who is at the other end of a connection; the same value for every call and tunnel of it. */
export interface Caller {
  /** Textual; empty when it is not known. */
  readonly address: string;
  /** The API server, or whoever plays it, has brought the connection from somebody else: this is its address, and `address` is empty. */
  readonly broughtBy?: string;
}

/** In each call's context: whoever serves knows by it what came over one connection. */
export const callerKey = createContextKey<Caller>({ address: '' }, { description: 'the caller' });

const callers = new WeakMap<ServerHttp2Session, Caller>();

export const callerOf = (session: ServerHttp2Session | undefined): Caller =>
  (session && callers.get(session)) ?? callerKey.defaultValue;

/** Whose session it is. Once, before it is used. */
export function setCaller(session: ServerHttp2Session, caller: Caller): void {
  callers.set(session, caller);
}

export const callerAt = (socket: Socket): Caller => ({ address: textOf(socket.remoteAddress) });

/** A listener for both families says `::ffff:10.0.0.1`. */
function textOf(address: string | undefined): string {
  const ip = parseIp(address?.split('%')[0] ?? '');
  return ip ? formatIp(unmapIp(ip)) : '';
}
