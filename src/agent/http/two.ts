import { performServerHandshake, type ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { Diversion } from '../port/diversion.ts';
import type { ServeDeps } from './serve.ts';
import { SessionLegs } from './sessions.ts';
import { StreamRelay } from './stream.ts';
import { StreamTap } from './stream-tap.ts';
import { filteredFrom, windowBytes } from './wire-two.ts';

const sessionWindowBytes = 16 * 1024 * 1024;
const endStreamFlag = 1;

/**
 * One HTTP/2 connection of a caller (RFC 9113, prior knowledge): every stream goes where the filters of its moment say,
 * over a connection to each target that lives as long as the caller's. Pings and windows are of each connection; streams,
 * trailers, resets and the farewell of the application pass. Not offered: server push, and CONNECT with a protocol
 * (RFC 8441), which callers only use when it is.
 */
export function serveHttp2(socket: Socket, deps: ServeDeps): void {
  if (socket.destroyed) {
    return;
  }
  const session: ServerHttp2Session = performServerHandshake(socket, { settings: { initialWindowSize: windowBytes } });
  session.setLocalWindowSize(sessionWindowBytes);
  // A farewell of the application is the caller's farewell: it may ask elsewhere.
  const legs = new SessionLegs(deps, () => session.close());
  const taps = new SessionLegs(deps, () => undefined);
  session.on('error', () => undefined);
  session.once('close', () => {
    legs.close();
    taps.close();
  });
  session.on('stream', (stream, headers, flags, rawHeaders: string[]) => {
    stream.on('error', () => undefined);
    const request = filteredFrom(headers);
    const { filtered, whole, taps: wanting } = deps.plan();
    const wanted = filtered.find(({ matches }) => matches?.(request)) ?? whole;
    const targets: readonly (Diversion | undefined)[] = wanted ? [wanted, undefined] : [undefined];
    const isEnd = (flags & endStreamFlag) !== 0;
    const copies = wanting
      .filter(({ matches }) => !matches || matches(request))
      .map((each) => new StreamTap(taps, each, rawHeaders, isEnd));
    void new StreamRelay(stream, rawHeaders, isEnd, copies).run(legs, targets);
  });
}
