import type { TunnelHandlers } from '../../protocol/transport/index.ts';

interface CountedSocket {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  once(event: 'close', listener: () => void): unknown;
}

/** Bytes of tunnels. Those of TCP are the kernel's own count: nothing is added up while they flow. */
export class TunnelTally {
  readonly #sockets = new Set<CountedSocket>();
  #ingress = 0;
  #egress = 0;
  #joined = 0;
  opened = 0;
  refused = 0;

  get open(): number {
    return this.#sockets.size + this.#joined;
  }

  /** From clients' machines. */
  get ingressBytes(): number {
    return this.#ingress + sum(this.#sockets, ({ bytesWritten }) => bytesWritten);
  }

  get egressBytes(): number {
    return this.#egress + sum(this.#sockets, ({ bytesRead }) => bytesRead);
  }

  /** A connection into the cluster. */
  socket(socket: CountedSocket): void {
    this.opened++;
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#ingress += socket.bytesWritten;
      this.#egress += socket.bytesRead;
    });
  }

  /** A tunnel whose bytes pass through our hands anyway: datagrams, and what is joined to another tunnel. */
  handlers(handlers: TunnelHandlers): TunnelHandlers {
    this.opened++;
    this.#joined++;
    return {
      ...handlers,
      onData: (slice, last) => {
        this.#ingress += slice.length;
        handlers.onData(slice, last);
      },
      onClose: (error) => {
        this.#joined--;
        handlers.onClose(error);
      },
    };
  }

  /** The other half of a joined tunnel. */
  sending(handlers: TunnelHandlers): TunnelHandlers {
    return {
      ...handlers,
      onData: (slice, last) => {
        this.#egress += slice.length;
        handlers.onData(slice, last);
      },
    };
  }

  sent(bytes: number): void {
    this.#egress += bytes;
  }

  report(ingressBytes: number, egressBytes: number): void {
    this.#ingress += Math.max(0, ingressBytes);
    this.#egress += Math.max(0, egressBytes);
  }
}

const sum = <T>(items: Iterable<T>, of: (item: T) => number): number => {
  let total = 0;
  for (const item of items) {
    total += of(item);
  }
  return total;
};
