import { connect, type Socket } from 'node:net';
import { type Clock, formatIp, type IpBytes } from '../../base/index.ts';
import type { DialResult } from '../dial/index.ts';

export type DialOutcome =
  | { readonly result: 'ok'; readonly socket: Socket }
  | { readonly result: Exclude<DialResult, 'ok'> };

/** Opens a TCP connection and says in one word how that went. The socket keeps half-close apart. Never rejects. */
export function dialTcp(clock: Clock, destination: IpBytes, port: number, timeoutMs: number): Promise<DialOutcome> {
  return new Promise((resolve) => {
    const socket = connect({ host: formatIp(destination), port, allowHalfOpen: true, noDelay: true });
    const end = (outcome: DialOutcome): void => {
      void timer.dispose();
      if (outcome.result !== 'ok') {
        socket.destroy();
      }
      resolve(outcome);
    };
    const timer = clock.after(timeoutMs, () => end({ result: 'timeout' }));
    socket.on('error', (error: NodeJS.ErrnoException) => end({ result: resultOfCode(error.code) }));
    socket.once('connect', () => end({ result: 'ok', socket }));
  });
}

export function resultOfCode(code: string | undefined): Exclude<DialResult, 'ok'> {
  switch (code) {
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return 'unreachable';
    case 'EACCES':
    case 'EPERM':
      return 'prohibited';
    case 'ETIMEDOUT':
      return 'timeout';
    default:
      return 'refused';
  }
}

/** What a tunnel finished with; anything unknown is read as refused, which is all that other peers can say. */
export function dialResultOf(text: string | undefined): Exclude<DialResult, 'ok'> {
  return text === 'unreachable' || text === 'timeout' || text === 'prohibited' ? text : 'refused';
}
