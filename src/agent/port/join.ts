import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { resetSocket } from '../../protocol/transport/index.ts';
import { peerReset } from '../errors.ts';

/** Two connections as one, with half-close and reset kept apart. */
export function join(a: Duplex, b: Duplex): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.pipe(to);
    from.on('error', () => breakOff(to));
    from.once('close', () => {
      if (!from.readableEnded) {
        breakOff(to);
      }
    });
  }
}

/** Ends a connection so that its other end sees a failure and no end. */
export function breakOff(duplex: Duplex): void {
  if (duplex instanceof Socket) {
    resetSocket(duplex);
  } else {
    duplex.destroy(peerReset());
  }
}
