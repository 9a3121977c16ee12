import { createSocket } from 'node:dgram';
import { type Clock, formatIp, type IpBytes } from '../../base/index.ts';
import { tunnelCode } from '../../protocol/index.ts';
import type { TunnelHandlers, TunnelStream } from '../../protocol/transport/index.ts';

/** A UDP socket that is connected to a program of this machine. */
export interface LocalDatagrams {
  /** Relays datagrams until either end is over or both were silent for a minute. */
  join(stream: TunnelStream, clock: Clock): TunnelHandlers;
  /** Without a tunnel to join. */
  close(): void;
}

const idleMs = 60_000;
const sweepMs = 10_000;
/** A datagram cannot be longer; what a peer sends beyond is dropped. */
const maxDatagramBytes = 65_535;
/** What one flow may have unsent; more is dropped, as UDP allows. */
const maxUnsentBytes = 1024 * 1024;

/** Undefined when the system gives no socket. */
export async function openDatagrams(destination: IpBytes, port: number): Promise<LocalDatagrams | undefined> {
  const socket = createSocket(destination.length === 4 ? 'udp4' : 'udp6');
  const isOpen = await new Promise<boolean>((resolve) => {
    socket.once('error', () => resolve(false));
    socket.connect(port, formatIp(destination), () => resolve(true));
  });
  if (!isOpen) {
    socket.close();
    return undefined;
  }
  return {
    close: () => void socket.close(),
    join(stream, clock) {
      let usedMs = clock.nowMs();
      let parts: Uint8Array[] = [];
      let length = 0;
      let unsentBytes = 0;
      let isClosed = false;
      const close = (): void => {
        if (!isClosed) {
          isClosed = true;
          void sweep.dispose();
          socket.close();
        }
      };
      const end = (code?: number): void => {
        if (code !== undefined) {
          stream.send(code);
        }
        stream.finish();
        close();
      };
      const sweep = clock.every(sweepMs, () => {
        if (clock.nowMs() - usedMs >= idleMs) {
          end();
        }
      });
      socket.removeAllListeners('error');
      // The program went away: the peer learns it, and the application gets what follows.
      socket.on('error', () => end(tunnelCode.disconnect));
      socket.on('message', (payload: Uint8Array) => {
        usedMs = clock.nowMs();
        if (unsentBytes <= maxUnsentBytes && !stream.sendData(payload)) {
          unsentBytes += payload.length;
        }
      });
      return {
        onControl(code) {
          if (code === tunnelCode.disconnect || code === tunnelCode.dialReject) {
            end();
          }
        },
        onData(slice, last) {
          usedMs = clock.nowMs();
          length += slice.length;
          if (length <= maxDatagramBytes) {
            // A copy: the slice's bytes are reused before the system has sent them.
            parts.push(Uint8Array.from(slice));
          }
          if (last) {
            if (length <= maxDatagramBytes && !isClosed) {
              socket.send(parts.length === 1 ? (parts[0] ?? slice) : Buffer.concat(parts), () => undefined);
            }
            parts = [];
            length = 0;
          }
        },
        onEnd: () => end(),
        onDrain() {
          unsentBytes = 0;
        },
        onClose: close,
      };
    },
  };
}
