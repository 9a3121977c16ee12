import { createSocket } from 'node:dgram';
import { type Clock, formatIp } from '../../base/index.ts';
import type { DialResult } from '../dial/index.ts';
import { type ConnId, tunnelCode } from '../tunnel/index.ts';
import { resultOfCode } from './dial.ts';
import type { TunnelHandlers, TunnelStream } from './stream.ts';

/** A flow that nobody uses is over: UDP has no end of its own. */
const idleMs = 60_000;

export interface DatagramHooks {
  /** Once the socket is there: what handles the rest of the tunnel. */
  readonly onOpened: (handlers: TunnelHandlers) => void;
  /** In place of `onOpened`: the tunnel has yet to be told. */
  readonly onFailed: (result: Exclude<DialResult, 'ok'>) => void;
  /** Bytes for the tunnel's far end. */
  readonly onSent?: (bytes: number) => void;
}

/** Carries the flow of a tunnel by one connected socket, so that an ICMP error comes back as one; a datagram is a message. */
export function relayDatagrams(
  stream: TunnelStream,
  id: ConnId,
  clock: Clock,
  { onOpened, onFailed, onSent }: DatagramHooks,
): void {
  const socket = createSocket(id.destination.length === 4 ? 'udp4' : 'udp6');
  let isOpen = true;
  let isOpened = false;
  let isActive = true;
  let parts: Uint8Array[] = [];
  /** Answers whether it was open. */
  const close = (): boolean => {
    const wasOpen = isOpen;
    isOpen = false;
    void idle.dispose();
    if (wasOpen) {
      socket.close();
    }
    return wasOpen;
  };
  const end = (): void => {
    if (close()) {
      stream.finish();
    }
  };
  const idle = clock.every(idleMs, () => {
    if (!isActive) {
      end();
    }
    isActive = false;
  });
  socket.on('error', ({ code }: NodeJS.ErrnoException) => {
    if (!close()) {
      return;
    }
    const result = resultOfCode(code);
    if (isOpened) {
      stream.send(tunnelCode.dialReject);
      stream.finish(result);
    } else {
      onFailed(result);
    }
  });
  socket.on('message', (message) => {
    isActive = true;
    onSent?.(message.length);
    // A slow reader loses datagrams here, as it would on a wire.
    stream.sendData(message);
  });
  socket.connect(id.destinationPort, formatIp(id.destination), () => {
    if (!isOpen) {
      return;
    }
    isOpened = true;
    stream.send(tunnelCode.dialOk);
    onOpened({
      onData: (slice, last) => {
        isActive = true;
        parts.push(slice);
        if (last && isOpen) {
          socket.send(parts.length === 1 ? slice : Buffer.concat(parts));
          parts = [];
        }
      },
      onControl: (code) => {
        if (code === tunnelCode.disconnect) {
          end();
        }
      },
      onEnd: end,
      onClose: end,
      onDrain: () => undefined,
    });
  });
}
