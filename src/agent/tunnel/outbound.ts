import { Code } from '@connectrpc/connect';
import { type Clock, equalBytes, formatIp, type IpBytes, type Logger, parseIp } from '../../base/index.ts';
import { type StreamInfo, serializeStreamOk, tunnelCode } from '../../protocol/index.ts';
import {
  type DialOutcome,
  dialTcp,
  relayDatagrams,
  relaySocket,
  type TunnelCall,
  type TunnelHandlers,
  type TunnelStream,
} from '../../protocol/transport/index.ts';

const defaultDialTimeoutMs = 5_000;
const maxDialTimeoutMs = 30_000;
/** What may come before the dial is done; the stream is paused, so this is only what was on its way. */
const maxEarlyEvents = 1_000;

export interface OutboundDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly podIp: string;
  readonly isKnown: (sessionId: string) => Promise<boolean>;
}

/** Dials from inside the pod for clients that the manager knows: what is in the pod's reach is in theirs. */
export class OutboundDialer {
  readonly #deps: OutboundDeps;

  constructor(deps: OutboundDeps) {
    this.#deps = deps;
  }

  /** Agent.Tunnel without a connection that waits. */
  readonly serve = (stream: TunnelCall, info: StreamInfo): TunnelHandlers => {
    const held = new Held(stream);
    stream.pause();
    void this.#deps.isKnown(info.sessionId).then((isKnown) => {
      if (stream.isClosed) {
        return;
      }
      if (!isKnown) {
        this.#deps.log.info('a stream of an unknown session was refused');
        held.attach(silent);
        stream.refuse(Code.PermissionDenied, 'the session is not known here');
        return;
      }
      stream.vouch();
      stream.send(tunnelCode.streamOk, serializeStreamOk());
      this.#dial(stream, info, held);
    });
    return held.handlers;
  };

  /** A tunnel in the connection that all tunnels of a client's session share. */
  take(stream: TunnelStream, info: StreamInfo, sessionId: string): void {
    const held = new Held(stream);
    stream.start(held.handlers);
    stream.pause();
    void this.#deps.isKnown(sessionId).then((isKnown) => {
      if (isKnown && info.sessionId === sessionId) {
        this.#dial(stream, info, held);
      } else {
        this.#deps.log.info('a stream of an unknown session was refused');
        refuse(stream, held, 'prohibited');
      }
    });
  }

  /** The manager asks for a dial (Manager.WatchDial): `stream` is a tunnel to it whose info has been sent. */
  dialFor(stream: TunnelStream, info: StreamInfo): void {
    const held = new Held(stream);
    stream.start(held.handlers);
    this.#dial(stream, info, held);
  }

  #dial(stream: TunnelStream, info: StreamInfo, held: Held): void {
    const { destination, destinationPort, protocol } = info.id;
    if (isForbidden(destination) || destinationPort === 0) {
      refuse(stream, held, 'prohibited');
    } else if (protocol === 'udp') {
      relayDatagrams(stream, info.id, this.#deps.clock, {
        onOpened: (handlers) => held.attach(handlers),
        onFailed: (result) => refuse(stream, held, result),
      });
    } else {
      void this.#dialTcp(info).then((outcome) => {
        if (outcome.result !== 'ok') {
          this.#deps.log.debug('dial failed', { to: formatIp(destination), port: destinationPort, ...outcome });
          refuse(stream, held, outcome.result);
        } else if (stream.isClosed) {
          outcome.socket.destroy();
        } else {
          stream.send(tunnelCode.dialOk);
          held.attach(relaySocket(outcome.socket, stream));
        }
      });
    }
  }

  /** A port of the pod may be open on its loopback alone. */
  async #dialTcp({ id, dialTimeoutMs }: StreamInfo): Promise<DialOutcome> {
    const { clock, podIp } = this.#deps;
    const limitMs = Math.min(dialTimeoutMs > 0 ? dialTimeoutMs : defaultDialTimeoutMs, maxDialTimeoutMs);
    const outcome = await dialTcp(clock, id.destination, id.destinationPort, limitMs);
    const own = parseIp(podIp);
    if (outcome.result !== 'refused' || !own || !equalBytes(own, id.destination)) {
      return outcome;
    }
    const loopback = own.length === 4 ? Uint8Array.of(127, 0, 0, 1) : parseIp('::1');
    return loopback ? await dialTcp(clock, loopback, id.destinationPort, limitMs) : outcome;
  }
}

/** Keeps what a stream says until it is known who listens. */
class Held {
  readonly #stream: TunnelStream;
  readonly #early: ((handlers: TunnelHandlers) => void)[] = [];
  #attached: TunnelHandlers | undefined;

  constructor(stream: TunnelStream) {
    this.#stream = stream;
  }

  attach(handlers: TunnelHandlers): void {
    this.#attached = handlers;
    for (const event of this.#early.splice(0)) {
      event(handlers);
    }
    this.#stream.resume();
  }

  readonly handlers: TunnelHandlers = {
    onControl: (code, body) => this.#deliver((handlers) => handlers.onControl(code, body)),
    onData: (slice, last) => this.#deliver((handlers) => handlers.onData(slice, last)),
    onEnd: () => this.#deliver((handlers) => handlers.onEnd()),
    onDrain: () => this.#attached?.onDrain(),
    onClose: (error) => this.#deliver((handlers) => handlers.onClose(error)),
  };

  #deliver(event: (handlers: TunnelHandlers) => void): void {
    if (this.#attached) {
      event(this.#attached);
    } else if (this.#early.push(event) > maxEarlyEvents) {
      this.#stream.reset();
    }
  }
}

const silent: TunnelHandlers = {
  onControl: () => undefined,
  onData: () => undefined,
  onEnd: () => undefined,
  onDrain: () => undefined,
  onClose: () => undefined,
};

function refuse(stream: TunnelStream, held: Held, result: string): void {
  held.attach(silent);
  stream.send(tunnelCode.dialReject);
  stream.finish(result);
}

/** The node's metadata service and what is only valid on a link; the pod's loopback is the clients' to reach. */
function isForbidden(ip: IpBytes): boolean {
  if (ip.length === 4) {
    const [a = 0, b = 0] = ip;
    return a === 0 || (a === 169 && b === 254) || a >= 224;
  }
  const isUnspecified = ip.every((byte) => byte === 0);
  const isLinkLocal = ip[0] === 0xfe && ((ip[1] ?? 0) & 0xc0) === 0x80;
  return isUnspecified || isLinkLocal || ip[0] === 0xff;
}
