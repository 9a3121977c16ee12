import type { Socket } from 'node:net';
import { create } from '@bufbuild/protobuf';
import { type Clock, type Logger, parseIp, unmapIp } from '../../base/index.ts';
import {
  type ConnId,
  parseStreamInfo,
  serializeConnId,
  serializeStreamInfo,
  serializeStreamOk,
  tunnelCode,
  wire,
} from '../../protocol/index.ts';
import { relaySocket, type TunnelHandlers, type TunnelStream } from '../../protocol/transport/index.ts';
import type { Diversion } from '../port/diversion.ts';

export type DialOutcomeForSocket = 'taken' | 'pass';

/** Opens a tunnel to the manager in the agent's name, or undefined while there is no connection. */
export type OpenManagerTunnel = () => { readonly stream: TunnelStream; readonly sessionId: string } | undefined;

/** Dials that a client has not fetched yet. */
const maxWaiting = 1_000;

interface Waiting {
  /** The handlers that the fetched stream gets. */
  readonly accept: (stream: TunnelStream) => TunnelHandlers;
}

/** Hands connections to the developer's side: over the client's own watch where there is one, else through the manager. */
export class Diverter {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #openManagerTunnel: OpenManagerTunnel;
  readonly #watchers = new Map<string, (request: wire.DialRequest) => boolean>();
  readonly #waiting = new Map<string, Waiting>();

  constructor(clock: Clock, log: Logger, openManagerTunnel: OpenManagerTunnel) {
    this.#clock = clock;
    this.#log = log;
    this.#openManagerTunnel = openManagerTunnel;
  }

  /** Agent.WatchDial: a client listens here for as long as the call lasts. */
  async *watch(sessionId: string, signal: AbortSignal): AsyncGenerator<wire.DialRequest> {
    const queue: wire.DialRequest[] = [];
    let wake: () => void = () => undefined;
    const push = (request: wire.DialRequest): boolean => {
      if (queue.length >= maxWaiting) {
        return false;
      }
      queue.push(request);
      wake();
      return true;
    };
    const abort = (): void => wake();
    signal.addEventListener('abort', abort, { once: true });
    this.#watchers.set(sessionId, push);
    try {
      while (!signal.aborted && this.#watchers.get(sessionId) === push) {
        const request = queue.shift();
        if (request) {
          yield request;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener('abort', abort);
      if (this.#watchers.get(sessionId) === push) {
        this.#watchers.delete(sessionId);
      }
    }
  }

  /** Agent.Tunnel: a client fetches a connection that waits for it. */
  accept(stream: TunnelStream): void {
    let delegate: TunnelHandlers | undefined;
    stream.start({
      onControl: (code, body) => {
        if (delegate) {
          delegate.onControl(code, body);
          return;
        }
        const info = code === tunnelCode.streamInfo ? parseStreamInfo(body) : undefined;
        const key = info && keyOf(info.sessionId, serializeConnId(info.id));
        const waiting = key ? this.#waiting.get(key) : undefined;
        if (!waiting || !key) {
          // Nobody waits: agents accept streams for nothing else.
          stream.reset();
          return;
        }
        this.#waiting.delete(key);
        stream.send(tunnelCode.streamOk, serializeStreamOk());
        delegate = waiting.accept(stream);
      },
      onData: (slice, last) => delegate?.onData(slice, last),
      onEnd: () => delegate?.onEnd(),
      onDrain: () => delegate?.onDrain(),
      onClose: (error) => delegate?.onClose(error),
    });
  }

  /** Resolves when the developer's side has taken the connection, or when the application has to answer. */
  divert(socket: Socket, diversion: Diversion): Promise<DialOutcomeForSocket> {
    const id = connIdOf(socket, diversion);
    const push = this.#watchers.get(diversion.clientSession);
    if (!id) {
      return Promise.resolve('pass');
    }
    return push ? this.#direct(socket, diversion, id, push) : this.#throughManager(socket, diversion, id);
  }

  #direct(
    socket: Socket,
    diversion: Diversion,
    id: ConnId,
    push: (request: wire.DialRequest) => boolean,
  ): Promise<DialOutcomeForSocket> {
    const connId = serializeConnId(id);
    const key = keyOf(diversion.clientSession, connId);
    return new Promise((resolve) => {
      const give = settler(resolve, () => {
        void timer.dispose();
        this.#waiting.delete(key);
      });
      const timer = this.#clock.after(diversion.dialTimeoutMs + diversion.roundtripLatencyMs, () => give('pass'));
      socket.once('close', () => give('taken'));
      this.#waiting.set(key, { accept: (stream) => attach(socket, stream, give) });
      const request = create(wire.DialRequestSchema, {
        connId,
        roundtripLatency: BigInt(Math.round(diversion.roundtripLatencyMs * 1e6)),
        dialTimeout: BigInt(Math.round(diversion.dialTimeoutMs * 1e6)),
      });
      if (!push(request)) {
        give('pass');
      }
    });
  }

  #throughManager(socket: Socket, diversion: Diversion, id: ConnId): Promise<DialOutcomeForSocket> {
    const opened = this.#openManagerTunnel();
    if (!opened) {
      return Promise.resolve('pass');
    }
    const { stream, sessionId } = opened;
    return new Promise((resolve) => {
      const give = settler(resolve, () => void timer.dispose());
      const timer = this.#clock.after(diversion.dialTimeoutMs + diversion.roundtripLatencyMs, () => {
        stream.reset();
        give('pass');
      });
      this.#log.debug('diverting through the manager', { intercept: diversion.interceptId });
      const { dialTimeoutMs, roundtripLatencyMs } = diversion;
      stream.send(tunnelCode.streamInfo, serializeStreamInfo({ id, sessionId, dialTimeoutMs, roundtripLatencyMs }));
      stream.send(tunnelCode.session, new TextEncoder().encode(diversion.clientSession));
      stream.start(attach(socket, stream, give));
    });
  }
}

/** Gives the outcome of a dial; false when there is one already. */
type Give = (outcome: DialOutcomeForSocket) => boolean;

/** The first outcome counts: a connection that went to the application must not go to the developer as well. */
function settler(resolve: (outcome: DialOutcomeForSocket) => void, onSettled: () => void): Give {
  let isSettled = false;
  return (outcome) => {
    if (isSettled) {
      return false;
    }
    isSettled = true;
    onSettled();
    resolve(outcome);
    return true;
  };
}

/**
 * Joins socket and stream once the developer's side has answered DialOK. Until then nothing of the socket has been
 * read, so a refusal leaves it whole for the application.
 */
function attach(socket: Socket, stream: TunnelStream, give: Give): TunnelHandlers {
  let relay: TunnelHandlers | undefined;
  const take = (): void => {
    if (give('taken')) {
      relay = relaySocket(socket, stream);
      socket.resume();
    } else {
      stream.reset();
    }
  };
  return {
    onControl(code, body) {
      if (relay) {
        relay.onControl(code, body);
      } else if (code === tunnelCode.dialOk) {
        take();
      } else if (code === tunnelCode.dialReject || code === tunnelCode.disconnect) {
        stream.finish();
        give('pass');
      }
    },
    onData(slice, last) {
      if (!relay) {
        // Some peers speak before they say that they have dialled.
        take();
      }
      relay?.onData(slice, last);
    },
    onEnd() {
      relay?.onEnd();
      if (!relay) {
        give('pass');
      }
    },
    onDrain: () => relay?.onDrain(),
    onClose(error) {
      relay?.onClose(error);
      if (!relay) {
        give('pass');
      }
    },
  };
}

function connIdOf(socket: Socket, diversion: Diversion): ConnId | undefined {
  const source = parseIp(socket.remoteAddress ?? '');
  const destination = parseIp(diversion.targetHost);
  return source && destination
    ? {
        protocol: 'tcp',
        source: unmapIp(source),
        sourcePort: socket.remotePort ?? 0,
        destination,
        destinationPort: diversion.targetPort,
      }
    : undefined;
}

function keyOf(sessionId: string, connId: Uint8Array): string {
  return `${sessionId} ${Buffer.from(connId).toString('hex')}`;
}
