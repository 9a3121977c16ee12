import type { IncomingHttpHeaders } from 'node:http2';
import { type Clock, formatIp, type IpBytes, type Logger } from '../../base/index.ts';
import {
  type ConnId,
  type DialResult,
  parseStreamInfo,
  type StreamInfo,
  serializeConnId,
  serializeStreamOk,
  tunnelCode,
} from '../../protocol/index.ts';
import {
  type Caller,
  dialTcp,
  joinTo,
  type Mux,
  type MuxConnection,
  type MuxGuest,
  type MuxServer,
  relayDatagrams,
  relaySocket,
  type TunnelCall,
  type TunnelHandlers,
  type TunnelStream,
} from '../../protocol/transport/index.ts';
import type { TunnelTally } from '../metrics/tunnels.ts';
import type { Store } from '../state/store.ts';
import type { DialWatchers } from './watchers.ts';

const defaultDialTimeoutMs = 5_000;
const maxDialTimeoutMs = 30_000;
/** The greeting waits this long for the outcome of the dial, to leave with it. */
const greetingDelayMs = 20;
/** What may wait for a dial to end: a window of it is on the way at most, so this is only a guard. */
const maxEarlyBytes = 8 * 1024 * 1024;
const maxEarlyEvents = 10_000;

export interface RouterDeps {
  readonly store: Store;
  readonly watchers: DialWatchers;
  readonly clock: Clock;
  readonly log: Logger;
  /** Whether a tunnel may be opened in the name of this session. */
  readonly tally: TunnelTally;
  readonly mayTunnel: (
    caller: Caller,
    authorization: string | undefined,
    sessionId: string,
  ) => boolean | Promise<boolean>;
}

const silent: TunnelHandlers = {
  onControl: () => undefined,
  onData: () => undefined,
  onEnd: () => undefined,
  onClose: () => undefined,
  onDrain: () => undefined,
};

/** Chooses the far end of each tunnel: a stream that is waited for, a client's program, or the cluster's network. */
export class TunnelRouter {
  readonly #deps: RouterDeps;
  /** By the sessions of clients. */
  readonly #carried = new Map<string, Mux>();

  constructor(deps: RouterDeps) {
    this.#deps = deps;
  }

  accept(stream: TunnelCall, headers: IncomingHttpHeaders, caller: Caller): void {
    let delegate: TunnelHandlers | undefined;
    let info: StreamInfo | undefined;
    const early: (() => void)[] = [];
    let earlyBytes = 0;
    let isAsked = false;
    let isAdmitted = false;
    const route = (handlers: TunnelHandlers): void => {
      delegate = handlers;
      for (const replay of early.splice(0)) {
        replay();
      }
      stream.resume();
    };
    const deliver = (event: (handlers: TunnelHandlers) => void): void => {
      if (delegate) {
        event(delegate);
      } else if (early.push(() => delegate && event(delegate)) > maxEarlyEvents) {
        stream.reset();
      }
    };
    stream.start({
      onControl: (code, body) => {
        if (info && isAdmitted && code === tunnelCode.session && this.#deps.store.agents.has(info.sessionId)) {
          // Meant for us: the client that fetches the connection knows who it is.
          if (!isAsked) {
            isAsked = true;
            stream.vouch();
            this.#fromAgent(stream, info, Buffer.from(body).toString('utf8'), route);
          }
          return;
        }
        if (info) {
          deliver((handlers) => handlers.onControl(code, body));
          return;
        }
        info = code === tunnelCode.streamInfo ? parseStreamInfo(body) : undefined;
        if (!info) {
          stream.reset();
          return;
        }
        stream.sendWithNext(tunnelCode.streamOk, serializeStreamOk());
        const opened = info;
        this.#ask({ caller, authorization: headers.authorization, sessionId: info.sessionId }, (isAllowed) => {
          if (stream.isClosed) {
            return;
          }
          isAdmitted = isAllowed;
          if (isAllowed && this.#deps.store.clients.has(opened.sessionId)) {
            stream.vouch();
            this.#fromClient(stream, opened, route);
          } else if (isAllowed && this.#deps.store.agents.has(opened.sessionId)) {
            stream.flush();
          } else {
            this.#refuse(stream, caller, route);
          }
        });
      },
      onData: (slice, last) => {
        if (!delegate) {
          stream.pause();
          earlyBytes += slice.length;
          if (earlyBytes > maxEarlyBytes) {
            stream.reset();
            return;
          }
        }
        deliver((handlers) => handlers.onData(slice, last));
      },
      onEnd: () => deliver((handlers) => handlers.onEnd()),
      onDrain: () => delegate?.onDrain(),
      onClose: (error) => deliver((handlers) => handlers.onClose(error)),
    });
  }

  /** The tunnels of a client in one connection. */
  readonly mux: MuxServer = {
    isKnown: ({ sessionId, caller, authorization }) =>
      this.#deps.store.clients.has(sessionId) && this.#deps.mayTunnel(caller, authorization, sessionId),
    onMux: (mux, guest) => this.#carry(mux, guest),
    onOpen: (connection, info, guest) => this.#take(connection, info, guest),
  };

  /** One at a time, since who asks again has lost the other one, and for as long as the session lasts. */
  #carry(mux: Mux, { sessionId }: MuxGuest): void {
    const client = this.#deps.store.clients.get(sessionId);
    const close = (): void => mux.close();
    if (!client) {
      close();
      return;
    }
    this.#carried.get(sessionId)?.close();
    this.#carried.set(sessionId, mux);
    client.ended.addEventListener('abort', close, { once: true });
    void mux.closed.then(() => {
      client.ended.removeEventListener('abort', close);
      if (this.#carried.get(sessionId) === mux) {
        this.#carried.delete(sessionId);
      }
    });
  }

  /** A client’s tunnel in that connection. What it says meanwhile waits there. */
  #take(stream: MuxConnection, info: StreamInfo, guest: MuxGuest): void {
    const { sessionId, caller } = guest;
    const route = (handlers: TunnelHandlers): void => stream.start(handlers);
    this.#ask(guest, (isAllowed) => {
      if (isAllowed && info.sessionId === sessionId && this.#deps.store.clients.has(sessionId)) {
        this.#fromClient(stream, info, route);
      } else {
        this.#refuse(stream, caller, route);
      }
    });
  }

  /** At once where nobody else has to be asked. */
  #ask({ sessionId, caller, authorization }: MuxGuest, admit: (isAllowed: boolean) => void): void {
    const verdict = this.#deps.mayTunnel(caller, authorization, sessionId);
    if (typeof verdict === 'boolean') {
      admit(verdict);
    } else {
      void verdict.then(admit);
    }
  }

  #refuse(stream: TunnelStream, caller: Caller, route: (handlers: TunnelHandlers) => void): void {
    this.#deps.log.info('a tunnel was refused', { from: caller.address });
    this.#deps.tally.refused++;
    reject(stream, route, 'prohibited');
  }

  #fromClient(stream: TunnelStream, info: StreamInfo, route: (handlers: TunnelHandlers) => void): void {
    const waiting = this.#deps.watchers.take(info.sessionId, serializeConnId(info.id));
    if (waiting) {
      const { tally } = this.#deps;
      stream.flush();
      route(tally.handlers(joinTo(stream, waiting.stream, info.id.protocol)));
      waiting.join(tally.sending(joinTo(waiting.stream, stream, info.id.protocol)));
    } else if (info.id.protocol === 'udp') {
      this.#dialUdp(stream, info.id, route);
    } else {
      void this.#dialTcp(stream, info, route);
    }
  }

  /** A peer's agent without a direct watcher: its client is asked to come and fetch the connection. */
  #fromAgent(
    stream: TunnelCall,
    info: StreamInfo,
    clientSession: string,
    route: (handlers: TunnelHandlers) => void,
  ): void {
    const asked = this.#deps.watchers.ask(clientSession, info, { stream, join: route });
    if (!asked) {
      route(silent);
      stream.send(tunnelCode.dialReject);
      stream.finish();
    }
  }

  async #dialTcp(stream: TunnelStream, info: StreamInfo, route: (handlers: TunnelHandlers) => void): Promise<void> {
    const { destination, destinationPort } = info.id;
    const wanted = info.dialTimeoutMs > 0 ? info.dialTimeoutMs : defaultDialTimeoutMs;
    const greeting = this.#deps.clock.after(greetingDelayMs, () => stream.flush());
    const outcome = isForbidden(destination)
      ? ({ result: 'prohibited' } as const)
      : await dialTcp(this.#deps.clock, destination, destinationPort, Math.min(wanted, maxDialTimeoutMs));
    void greeting.dispose();
    if (outcome.result !== 'ok') {
      this.#deps.tally.refused++;
      this.#deps.log.debug('dial failed', { to: formatIp(destination), port: destinationPort, result: outcome.result });
      reject(stream, route, outcome.result);
      return;
    }
    if (stream.isClosed) {
      outcome.socket.destroy();
      return;
    }
    stream.send(tunnelCode.dialOk);
    this.#deps.tally.socket(outcome.socket);
    route(relaySocket(outcome.socket, stream));
  }

  #dialUdp(stream: TunnelStream, id: ConnId, route: (handlers: TunnelHandlers) => void): void {
    const { clock, tally } = this.#deps;
    if (isForbidden(id.destination)) {
      reject(stream, route, 'prohibited');
      return;
    }
    relayDatagrams(stream, id, clock, {
      onOpened: (handlers) => route(tally.handlers(handlers)),
      onFailed: (result) => reject(stream, route, result),
      onSent: (bytes) => tally.sent(bytes),
    });
  }
}

function reject(stream: TunnelStream, route: (handlers: TunnelHandlers) => void, result: DialResult): void {
  route(silent);
  stream.send(tunnelCode.dialReject);
  stream.finish(result);
}

/** A client must not reach the manager's own loopback, nor what is only valid on its link. */
function isForbidden(ip: IpBytes): boolean {
  if (ip.length === 4) {
    const [a = 0, b = 0] = ip;
    return a === 0 || a === 127 || (a === 169 && b === 254) || a >= 224;
  }
  const isLow = ip.subarray(0, 15).every((byte) => byte === 0) && (ip[15] ?? 0) <= 1;
  const isLinkLocal = ip[0] === 0xfe && ((ip[1] ?? 0) & 0xc0) === 0x80;
  return isLow || isLinkLocal || ip[0] === 0xff;
}
