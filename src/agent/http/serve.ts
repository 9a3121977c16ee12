import type { Socket } from 'node:net';
import type { Clock, Logger } from '../../base/index.ts';
import type { AppAddress } from '../port/app.ts';
import type { PortPlan } from '../port/diversion.ts';
import type { Caller, Diverter } from '../tunnel/diverter.ts';

export interface ServeDeps extends AppAddress {
  /** What is attached at this moment. */
  readonly plan: () => PortPlan;
  readonly caller: Caller;
  readonly diverter: Diverter;
  readonly clock: Clock;
  readonly log: Logger;
  /** Takes the socket, with what was read put back, as it would have been taken without filters. */
  readonly passThrough: () => void;
}

/** Reads a connection that may be HTTP, and passes it through when it is not. */
export function serveRequests(_socket: Socket, deps: ServeDeps): void {
  deps.passThrough();
}
