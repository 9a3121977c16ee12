import type { Socket } from 'node:net';
import type { ServeDeps } from './serve.ts';

export function serveHttp2(_socket: Socket, deps: ServeDeps): void {
  deps.passThrough();
}
