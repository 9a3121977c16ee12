import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { tunnelCode } from '../../protocol/index.ts';
import { resetSocket, type TunnelHandlers, type TunnelStream } from '../../protocol/transport/index.ts';
import { peerReset } from '../errors.ts';

/** Joins two TCP sockets opened for half-close: back-pressure, half-close and reset travel both ways. */
export function relaySockets(a: Socket, b: Socket): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.setNoDelay(true);
    from.pipe(to);
    from.on('error', () => resetSocket(to));
    from.once('close', () => {
      if (!to.writableEnded) {
        resetSocket(to);
      }
    });
  }
}

/** A tunnel as a stream, for the HTTP client: it wants one, and needs nothing else of a socket. */
export function tunnelDuplex(stream: TunnelStream): { readonly duplex: Duplex; readonly handlers: TunnelHandlers } {
  let waiting: ((error?: Error | null) => void) | undefined;
  let hasEnded = false;
  const duplex = new Duplex({
    allowHalfOpen: true,
    read: () => stream.resume(),
    write(chunk: Buffer, _encoding, done) {
      if (stream.sendData(chunk)) {
        done();
      } else {
        waiting = done;
      }
    },
    final(done) {
      stream.endSend();
      done();
    },
    destroy(error, done) {
      if (error || !hasEnded) {
        stream.reset();
      } else {
        stream.finish();
      }
      done(error);
    },
  });
  const release = (error?: Error): void => {
    const done = waiting;
    waiting = undefined;
    done?.(error);
  };
  const handlers: TunnelHandlers = {
    onControl(code) {
      if (code === tunnelCode.disconnect || code === tunnelCode.dialReject) {
        duplex.destroy(peerReset());
      }
    },
    onData(slice) {
      if (!duplex.destroyed && !duplex.push(slice)) {
        stream.pause();
      }
    },
    onEnd() {
      hasEnded = true;
      duplex.push(null);
    },
    onDrain: () => release(),
    onClose(error) {
      release(error ?? peerReset());
      if (error) {
        duplex.destroy(error);
      }
    },
  };
  return { duplex, handlers };
}
