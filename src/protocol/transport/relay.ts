import type { Socket } from 'node:net';
import type { NearfieldError } from '../../base/index.ts';
import { tunnelCode } from '../tunnel/index.ts';
import type { TunnelHandlers, TunnelStream } from './stream.ts';

/** Below, somebody waits for an answer. */
const bulkBytes = 8 * 1024;

export interface RelayHooks {
  /** Control messages other than half-close and hard close, e.g. DialOK. */
  readonly onControl?: (code: number, body: Uint8Array) => void;
  /**
   * The stream broke, which its far end did not mean. True: the socket is somebody else's from now on, with what it has
   * not said yet; nothing more is called.
   */
  readonly onLost?: (error: NearfieldError) => boolean;
  /** Once, when both sides are done. */
  readonly onClosed?: (error?: NearfieldError) => void;
}

/**
 * Joins a TCP socket (opened with `allowHalfOpen`) and a tunnel stream. Back-pressure, half-close and reset travel in
 * both directions; neither side ever queues more than one chunk beyond the other's window. Connector, manager and
 * agent share it, so that the chain is the same everywhere.
 */
export function relaySocket(socket: Socket, stream: TunnelStream, hooks: RelayHooks = {}): TunnelHandlers {
  let socketDone = false;
  let streamDone = false;
  let streamEnded = false;
  let socketEnded = false;
  const settle = (error?: NearfieldError): void => {
    if (socketDone && streamDone) {
      hooks.onClosed?.(error);
    }
  };
  const abort = (): void => resetSocket(socket);
  const finishWhenBothEnded = (): void => {
    if (socketEnded && streamEnded) {
      stream.finish();
    }
  };
  socket.setNoDelay(true);
  const listeners = {
    data: (chunk: Buffer): void => {
      if (!stream.sendData(chunk)) {
        socket.pause();
      }
    },
    drain: (): void => stream.resume(),
    end: (): void => {
      socketEnded = true;
      if (streamEnded) {
        // The end of the call says it all.
        stream.finish();
      } else {
        stream.endSend();
      }
    },
    error: (): void => {
      if (!streamDone) {
        // A reset is a message: a plain end would turn a failed transfer into a complete one.
        stream.send(tunnelCode.disconnect);
        stream.finish();
      }
    },
    close: (): void => {
      socketDone = true;
      if (!streamDone) {
        stream.finish();
        stream.resume();
      }
      settle();
    },
  };
  const names = ['data', 'drain', 'end', 'error', 'close'] as const;
  for (const name of names) {
    socket.on(name, listeners[name]);
  }
  const letGo = (): void => {
    socket.pause();
    for (const name of names) {
      socket.off(name, listeners[name]);
    }
  };
  return {
    onControl(code, body) {
      if (code === tunnelCode.disconnect || code === tunnelCode.dialReject) {
        abort();
        stream.finish();
      } else {
        hooks.onControl?.(code, body);
      }
    },
    onData(slice) {
      if (socket.destroyed || socket.writableEnded) {
        return;
      }
      if (slice.length >= bulkBytes) {
        gather(socket);
      }
      if (!socket.write(slice)) {
        stream.pause();
      }
    },
    onEnd() {
      streamEnded = true;
      if (!socket.destroyed) {
        socket.end();
      }
      finishWhenBothEnded();
    },
    onDrain: () => socket.resume(),
    onClose(error) {
      streamDone = true;
      if (error && !socket.destroyed && hooks.onLost?.(error)) {
        letGo();
        return;
      }
      if (error) {
        abort();
      }
      settle(error);
    },
  };
}

/** What one look at the network brings leaves in one write: as frames of 16 KiB it would wake its reader each time. */
function gather(socket: Socket): void {
  if (socket.writableCorked === 0) {
    socket.cork();
    setImmediate(() => socket.uncork());
  }
}

/** Ends a connection so that the peer sees a failure and no end. */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) {
    return;
  }
  if (socket.writableEnded && !socket.writableFinished) {
    // Until its FIN is out the kernel's socket cannot be reset: Node would leave it open for good.
    socket.once('finish', () => socket.resetAndDestroy());
  } else {
    socket.resetAndDestroy();
  }
}
