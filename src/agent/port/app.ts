import type { Socket } from 'node:net';
import { type Clock, parseIp } from '../../base/index.ts';
import { dialTcp } from '../../protocol/transport/index.ts';

export interface AppAddress {
  /** The pod's own; without it, loopback. */
  readonly podIp: string;
  readonly containerPort: number;
  /** False where the agent stands in for a container that was taken away: nobody listens behind it. */
  readonly hasApp?: boolean;
}

export const appDialTimeoutMs = 5_000;

export const appIp = ({ podIp }: AppAddress): Uint8Array => parseIp(podIp) ?? Uint8Array.of(127, 0, 0, 1);

/** A connection to the application; undefined when it takes none. */
export async function dialApp(clock: Clock, app: AppAddress): Promise<Socket | undefined> {
  if (app.hasApp === false) {
    return undefined;
  }
  const outcome = await dialTcp(clock, appIp(app), app.containerPort, appDialTimeoutMs);
  return outcome.result === 'ok' ? outcome.socket : undefined;
}
