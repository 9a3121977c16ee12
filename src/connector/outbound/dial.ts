import type { Socket } from 'node:net';
import type { Clock, Disposable, IpBytes, NearfieldError } from '../../base/index.ts';
import { type ConnId, type DialResult, tunnelCode } from '../../protocol/index.ts';
import {
  dialResultOf,
  LateHandlers,
  relaySocket,
  type TunnelHandlers,
  type TunnelOrigin,
  type TunnelStream,
} from '../../protocol/transport/index.ts';

const dialTimeoutMs = 5_000;
const roundtripLatencyMs = 2_000;
const reasonTimeoutMs = 500;
const maxOpenDials = 2_000;
/** What one UDP flow may have unsent; more is dropped, as UDP allows. */
const maxUnsentBytes = 1024 * 1024;
/** A datagram cannot be longer; what a peer sends beyond is dropped. */
const maxDatagramBytes = 65_535;

export type DialFailure = Exclude<DialResult, 'ok'>;

export interface ClusterDialerDeps {
  readonly clock: Clock;
  /** Where a connection to an address begins: the manager, or an agent, and our session there; while there is one. */
  readonly tunnels: (destination: IpBytes) => TunnelOrigin | undefined;
}

/** An open TCP connection in the cluster. Nothing is read from it until it is joined; then it belongs to the relay. */
export interface ClusterConnection {
  /** Relays until both directions are over. The socket must be open for half-close (`allowHalfOpen`). */
  join(socket: Socket, onClosed?: () => void): void;
  /** For a consumer that is no socket: the same as `join`, by hand. */
  attach(makeHandlers: (stream: TunnelStream) => TunnelHandlers): void;
  reset(): void;
}

export type ClusterOutcome =
  | { readonly result: 'ok'; readonly connection: ClusterConnection }
  | { readonly result: DialFailure };

export interface UdpHooks {
  /** Once: whether the far end is there. */
  readonly onOpened: (result: DialResult) => void;
  readonly onDatagram: (payload: Uint8Array) => void;
  /** Once, after an `ok`: the far end is gone. */
  readonly onClosed: () => void;
}

export interface UdpFlow {
  /** Keeps the bytes a while: hand over what nobody reuses. */
  send(payload: Uint8Array): void;
  /** No hook is called afterwards. */
  close(): void;
}

/** What can call a dial off: an `AbortSignal` would cost a connection more than its name on the wire does. */
export class Cancellation {
  #cancel: (() => void) | undefined;
  #isCancelled = false;

  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#cancel?.();
  }

  /** At most one at a time; undefined when there is nothing to call off any more. */
  set onCancelled(callback: (() => void) | undefined) {
    this.#cancel = callback;
  }
}

/** Opens connections in the cluster's network, each as a tunnel to the traffic-manager. */
export class ClusterDialer implements Disposable {
  readonly #deps: ClusterDialerDeps;
  /** Each gives up one dial that is under way. */
  readonly #underWay = new Set<() => void>();

  constructor(deps: ClusterDialerDeps) {
    this.#deps = deps;
  }

  /** Never rejects. When it is cancelled first the tunnel is given up, and the result is `timeout`. */
  async dialTcp(id: ConnId, signal?: AbortSignal): Promise<ClusterOutcome> {
    if (!signal) {
      return this.dial(id, new Cancellation());
    }
    const cancellation = new Cancellation();
    const cancel = (): void => cancellation.cancel();
    if (signal.aborted) {
      cancel();
    }
    signal.addEventListener('abort', cancel, { once: true });
    try {
      return await this.dial(id, cancellation);
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  /** The same, for thousands. */
  dial(id: ConnId, cancellation: Cancellation): Promise<ClusterOutcome> {
    const mayOpen = this.#underWay.size < maxOpenDials && !cancellation.isCancelled;
    const stream = mayOpen ? this.#open(id) : undefined;
    if (!stream) {
      return Promise.resolve({ result: 'unreachable' });
    }
    return new Promise((resolve) => {
      let isSettled = false;
      const settle = (outcome: ClusterOutcome): void => {
        if (!isSettled) {
          isSettled = true;
          this.#underWay.delete(giveUp);
          void limit.dispose();
          cancellation.onCancelled = undefined;
          resolve(outcome);
        }
      };
      const giveUp = (): void => {
        settle({ result: 'timeout' });
        stream.reset();
      };
      const limit = this.#deps.clock.after(dialTimeoutMs + roundtripLatencyMs, giveUp);
      cancellation.onCancelled = giveUp;
      this.#underWay.add(giveUp);
      const late = new LateHandlers({
        onControl: (code) => {
          if (code === tunnelCode.dialOk && !isSettled) {
            // Until somebody is joined nothing more is read.
            stream.pause();
            settle({ result: 'ok', connection: connectionOf(stream, late) });
          } else if (code === tunnelCode.dialReject) {
            // The reason comes right behind.
            stream.endSend();
            this.#deps.clock.after(reasonTimeoutMs, () => settle({ result: reasonOf(stream) }));
          }
        },
        onClose: (error) => settle({ result: failureOf(stream, error) }),
      });
      stream.start(late.handlers);
    });
  }

  /** Undefined while there is no connection to the manager; no hook is called then. */
  openUdp(id: ConnId, { onOpened, onDatagram, onClosed }: UdpHooks): UdpFlow | undefined {
    const stream = this.#open(id);
    if (!stream) {
      return undefined;
    }
    let parts: Uint8Array[] = [];
    let length = 0;
    let unsentBytes = 0;
    let result: DialResult | undefined;
    let isClosed = false;
    const opened = (answer: DialResult): void => {
      if (!result) {
        result = answer;
        onOpened(answer);
      }
    };
    stream.start({
      onControl: (code) => {
        if (code === tunnelCode.dialOk) {
          opened('ok');
        } else if (code === tunnelCode.dialReject || code === tunnelCode.disconnect) {
          stream.endSend();
        }
      },
      onData: (slice, last) => {
        length += slice.length;
        if (length <= maxDatagramBytes) {
          parts.push(slice);
        }
        if (last) {
          if (length <= maxDatagramBytes) {
            onDatagram(parts.length === 1 ? slice : Buffer.concat(parts));
          }
          parts = [];
          length = 0;
        }
      },
      onEnd: () => undefined,
      onDrain: () => {
        unsentBytes = 0;
      },
      onClose: () => {
        if (isClosed) {
          return;
        }
        if (result === 'ok') {
          onClosed();
        } else {
          opened(reasonOf(stream));
        }
      },
    });
    return {
      send: (payload) => {
        if (unsentBytes <= maxUnsentBytes && !stream.sendData(payload)) {
          unsentBytes += payload.length;
        }
      },
      close: () => {
        isClosed = true;
        stream.reset();
      },
    };
  }

  /** Gives up what is being dialled; open connections belong to those who have them. */
  dispose(): void {
    for (const giveUp of this.#underWay) {
      giveUp();
    }
  }

  #open(id: ConnId): TunnelStream | undefined {
    const origin = this.#deps.tunnels(id.destination);
    return origin?.tunnels.open({ id, sessionId: origin.sessionId, dialTimeoutMs, roundtripLatencyMs });
  }
}

function connectionOf(stream: TunnelStream, late: LateHandlers): ClusterConnection {
  const attach = (makeHandlers: (stream: TunnelStream) => TunnelHandlers): void => {
    late.attach(makeHandlers(stream));
    stream.resume();
  };
  return {
    join: (socket, onClosed) => attach(() => relaySocket(socket, stream, onClosed ? { onClosed } : {})),
    attach,
    reset: () => stream.reset(),
  };
}

const reasonOf = ({ result }: TunnelStream): DialFailure => dialResultOf(result);

/** A tunnel that broke says nothing about the destination. */
const failureOf = (stream: TunnelStream, error: NearfieldError | undefined): DialFailure =>
  error && !stream.result ? 'unreachable' : reasonOf(stream);
