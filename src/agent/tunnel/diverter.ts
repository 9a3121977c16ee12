import { create } from '@bufbuild/protobuf';
import { type Clock, type Logger, parseIp, unmapIp } from '../../base/index.ts';
import {
  type ConnId,
  parseStreamInfo,
  type StreamInfo,
  serializeConnId,
  serializeStreamInfo,
  serializeStreamOk,
  tunnelCode,
  wire,
} from '../../protocol/index.ts';
import type { Mux, TunnelCall, TunnelHandlers, TunnelStream } from '../../protocol/transport/index.ts';
import type { Diversion } from '../port/diversion.ts';
import { DialledTunnel, Outcome, type PendingTunnel, type TakenTunnel } from './dialled.ts';
import { DialWatchers, type PushDial } from './watchers.ts';

/** Opens a tunnel to the manager in the agent's name, or undefined while there is no connection. */
export type OpenManagerTunnel = () => { readonly stream: TunnelCall; readonly sessionId: string } | undefined;

/** Takes a stream that no connection waits for: a client wants something of the pod's network. */
export type ServeStream = (stream: TunnelCall, info: StreamInfo) => TunnelHandlers;

/** Who called, for the developer's side to see. */
export interface Caller {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string | undefined;
  readonly port: number | undefined;
}

const gone: PendingTunnel = { taken: Promise.resolve(undefined), cancel: () => undefined };
/** Several tunnels of one caller differ in the caller's port; more than these are not open at a time. */
const maxSameCaller = 64;
/** A caller that waits to be spoken to first has nothing that the greeting could leave with. */
const greetingDelayMs = 20;

/**
 * Hands connections to the developer’s side: all in one where its client has opened that, over its watch where there is
 * only that, else through the manager.
 */
export class Diverter {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #openManagerTunnel: OpenManagerTunnel;
  readonly #serve: ServeStream;
  readonly #watchers = new DialWatchers();
  /** By the clients' sessions. The newest counts. */
  readonly #muxes = new Map<string, Mux>();
  /** What happens to the stream by which a client fetches a connection. */
  readonly #waiting = new Map<string, (stream: TunnelCall) => DialledTunnel>();
  /** Names of connections that wait or are open: a second one of the same name would be mistaken for the first. */
  readonly #names = new Set<string>();

  constructor(clock: Clock, log: Logger, openManagerTunnel: OpenManagerTunnel, serve: ServeStream = refuse) {
    this.#clock = clock;
    this.#log = log;
    this.#openManagerTunnel = openManagerTunnel;
    this.#serve = serve;
  }

  /** Agent.WatchDial: a client listens here for as long as the call lasts. */
  watch(sessionId: string, signal: AbortSignal): AsyncGenerator<wire.DialRequest> {
    return this.#watchers.watch(sessionId, signal);
  }

  /** A client takes its connections all in one, for as long as that lasts. */
  serveMux(mux: Mux, sessionId: string): void {
    this.#muxes.set(sessionId, mux);
    void mux.closed.then(() => {
      if (this.#muxes.get(sessionId) === mux) {
        this.#muxes.delete(sessionId);
      }
    });
  }

  /** Agent.Tunnel: a client fetches a connection that waits for it, or opens one of its own. */
  accept(stream: TunnelCall): void {
    let delegate: TunnelHandlers | undefined;
    stream.start({
      onControl: (code, body) => {
        if (delegate) {
          delegate.onControl(code, body);
          return;
        }
        const info = code === tunnelCode.streamInfo ? parseStreamInfo(body) : undefined;
        if (!info) {
          stream.reset();
          return;
        }
        const key = keyOf(info.sessionId, info.id);
        const fetched = this.#waiting.get(key);
        if (fetched) {
          this.#waiting.delete(key);
          stream.vouch();
          stream.sendWithNext(tunnelCode.streamOk, serializeStreamOk());
          const tunnel = fetched(stream);
          delegate = tunnel.handlers;
          queueMicrotask(() => this.#greet(stream, tunnel));
        } else {
          delegate = this.#serve(stream, info);
        }
      },
      onData: (slice, last) => (delegate ? delegate.onData(slice, last) : stream.reset()),
      onEnd: () => (delegate ? delegate.onEnd() : stream.reset()),
      onDrain: () => delegate?.onDrain(),
      onClose: (error) => delegate?.onClose(error),
    });
  }

  /** Some clients dial when they are greeted; ours has dialled before, and is greeted with the caller's first bytes. */
  #greet(stream: TunnelCall, { isTaken }: DialledTunnel): void {
    if (isTaken) {
      this.#clock.after(greetingDelayMs, () => stream.flush());
    } else {
      stream.flush();
    }
  }

  /** Asks the developer's side to take a connection. */
  open(caller: Caller, diversion: Diversion): PendingTunnel {
    const carried = this.#carried(caller, diversion);
    if (carried) {
      return carried;
    }
    const id = this.#nameOf(caller, diversion);
    if (!id) {
      return gone;
    }
    const push = this.#watchers.of(diversion.clientSession);
    const pending = push ? this.#direct(id, diversion, push) : this.#throughManager(id, diversion);
    const key = keyOf(diversion.clientSession, id);
    this.#names.add(key);
    const forget = (): boolean => this.#names.delete(key);
    return {
      cancel: pending.cancel,
      taken: pending.taken.then((tunnel) => {
        if (!tunnel) {
          forget();
          return undefined;
        }
        return forgetting(tunnel, forget);
      }),
    };
  }

  /** There every connection has a number, and needs no name that is its own. */
  #carried(caller: Caller, diversion: Diversion): PendingTunnel | undefined {
    const { dialTimeoutMs, roundtripLatencyMs, clientSession: sessionId } = diversion;
    const mux = this.#muxes.get(sessionId);
    const id = mux && idOf(caller, diversion);
    const stream = id && mux.open({ id, sessionId, dialTimeoutMs, roundtripLatencyMs }, true);
    return stream && { ...this.#dialled(stream, diversion), stream };
  }

  #direct(id: ConnId, diversion: Diversion, push: PushDial): PendingTunnel {
    const { dialTimeoutMs, roundtripLatencyMs } = diversion;
    const key = keyOf(diversion.clientSession, id);
    const outcome = new Outcome(() => {
      void timer.dispose();
      void listening.dispose();
      this.#waiting.delete(key);
    });
    const timer = this.#clock.after(dialTimeoutMs + roundtripLatencyMs, () => outcome.settle(undefined));
    // The caller must not wait for somebody who is gone. Once fetched, the stream itself tells.
    const listening = this.#watchers.onWatcherGone((each) => {
      if (each === push && this.#waiting.has(key)) {
        outcome.settle(undefined);
      }
    });
    this.#waiting.set(key, (stream) => new DialledTunnel(stream, outcome));
    const request = create(wire.DialRequestSchema, {
      connId: serializeConnId(id),
      roundtripLatency: BigInt(Math.round(roundtripLatencyMs * 1e6)),
      dialTimeout: BigInt(Math.round(dialTimeoutMs * 1e6)),
    });
    if (!push(request)) {
      outcome.settle(undefined);
    }
    return { taken: outcome.taken, cancel: () => void outcome.settle(undefined) };
  }

  #throughManager(id: ConnId, diversion: Diversion): PendingTunnel {
    let opened: ReturnType<OpenManagerTunnel>;
    try {
      opened = this.#openManagerTunnel();
    } catch {
      // The connection to the manager is just breaking.
    }
    if (!opened) {
      return gone;
    }
    const { stream, sessionId } = opened;
    const { dialTimeoutMs, roundtripLatencyMs } = diversion;
    this.#log.debug('diverting through the manager', { intercept: diversion.interceptId });
    stream.send(tunnelCode.streamInfo, serializeStreamInfo({ id, sessionId, dialTimeoutMs, roundtripLatencyMs }));
    stream.send(tunnelCode.session, new TextEncoder().encode(diversion.clientSession));
    return this.#dialled(stream, diversion);
  }

  /** Somebody dials at the other end of this stream. */
  #dialled(stream: TunnelStream, { dialTimeoutMs, roundtripLatencyMs }: Diversion): PendingTunnel {
    const outcome = new Outcome(() => void timer.dispose());
    const cancel = (): void => {
      if (outcome.settle(undefined)) {
        stream.reset();
      }
    };
    const timer = this.#clock.after(dialTimeoutMs + roundtripLatencyMs, cancel);
    stream.start(new DialledTunnel(stream, outcome).handlers);
    return { taken: outcome.taken, cancel };
  }

  /** The caller's own port where it is free, else one beside it. */
  #nameOf(caller: Caller, diversion: Diversion): ConnId | undefined {
    const own = idOf(caller, diversion);
    for (let step = 0; own && step < maxSameCaller; step++) {
      const id = { ...own, sourcePort: (own.sourcePort + step) % 65_536 };
      if (!this.#names.has(keyOf(diversion.clientSession, id))) {
        return id;
      }
    }
    return undefined;
  }
}

function idOf({ protocol, address, port = 0 }: Caller, diversion: Diversion): ConnId | undefined {
  const source = parseIp(address ?? '');
  const destination = parseIp(diversion.targetHost);
  return source && destination
    ? { protocol, source: unmapIp(source), sourcePort: port, destination, destinationPort: diversion.targetPort }
    : undefined;
}

/** Without a server for them, streams that nobody waits for are refused. */
const refuse: ServeStream = (stream) => {
  stream.reset();
  return {
    onControl: () => undefined,
    onData: () => undefined,
    onEnd: () => undefined,
    onDrain: () => undefined,
    onClose: () => undefined,
  };
};

/** The same tunnel, and its name is free again when it is closed. */
function forgetting(tunnel: TakenTunnel, forget: () => void): TakenTunnel {
  return {
    stream: tunnel.stream,
    attach: (handlers) =>
      tunnel.attach({
        onControl: (code, body) => handlers.onControl(code, body),
        onData: (slice, last) => handlers.onData(slice, last),
        onEnd: () => handlers.onEnd(),
        onDrain: () => handlers.onDrain(),
        onClose: (error) => {
          forget();
          handlers.onClose(error);
        },
      }),
  };
}

function keyOf(sessionId: string, id: ConnId): string {
  return `${sessionId} ${Buffer.from(serializeConnId(id)).toString('hex')}`;
}
