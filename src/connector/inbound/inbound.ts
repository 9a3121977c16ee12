import { type Clock, formatIp, type IpBytes, type Logger } from '../../base/index.ts';
import { type ConnId, parseConnId, type StreamInfo, tunnelCode, type wire } from '../../protocol/index.ts';
import {
  type DialOutcome,
  dialTcp,
  relaySocket,
  type TunnelHandlers,
  type TunnelOrigin,
  type TunnelStream,
} from '../../protocol/transport/index.ts';
import { openDatagrams } from './datagrams.ts';
import { isUdpPortBound } from './udp-ports.ts';

export interface InboundDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** Only what the user has attached may be dialled: the cluster must not choose ports of this machine. */
  readonly isAllowed: (host: string, port: number, protocol: 'TCP' | 'UDP') => boolean;
  /** Whether a program has this UDP port; undefined where that cannot be known before a datagram is sent. */
  readonly hasUdpPort?: (port: number) => Promise<boolean | undefined>;
}

const localDialTimeoutMs = 3_000;
/** Beyond, the application answers: a flood of callers must not use up this machine's descriptors. */
const maxConnections = 5_000;
const loopback4 = '127.0.0.1';
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/** A program of this machine that has taken the connection. */
interface Reached {
  join(stream: TunnelStream): TunnelHandlers;
  giveUp(): void;
}

const refused: TunnelHandlers = {
  onControl: () => undefined,
  onData: () => undefined,
  onEnd: () => undefined,
  onDrain: () => undefined,
  onClose: () => undefined,
};

/** Answers peers' requests to fetch connections: opens the tunnel back, and dials the developer's program. */
export class Inbound {
  readonly #deps: InboundDeps;
  #open = 0;

  constructor(deps: InboundDeps) {
    this.#deps = deps;
  }

  /** Connections of callers that are open now. */
  get connections(): number {
    return this.#open;
  }

  /** Lasts as long as the peer's watch does. */
  async serve(source: TunnelOrigin | undefined, requests: AsyncIterable<wire.DialRequest>): Promise<void> {
    for await (const request of requests) {
      const id = parseConnId(request.connId);
      if (id && source) {
        void this.#fetch(source, id, request);
      }
    }
  }

  /** A connection that an agent has opened towards us. */
  readonly take = async (stream: TunnelStream, { id }: StreamInfo): Promise<void> => {
    this.#open++;
    this.#join(stream, await this.#dial(id));
  };

  /**
   * Opens the tunnel when it is known how the dial went, and says so in the same piece: whoever called waits for one
   * message of ours. The greeting of the other end is not waited for; it says nothing that matters here.
   */
  async #fetch(source: TunnelOrigin, id: ConnId, request: wire.DialRequest): Promise<void> {
    this.#open++;
    const reached = await this.#dial(id);
    const info = {
      id,
      sessionId: source.sessionId,
      dialTimeoutMs: Number(request.dialTimeout) / 1e6,
      roundtripLatencyMs: Number(request.roundtripLatency) / 1e6,
    };
    const stream = source.tunnels.open(info, true);
    if (!stream) {
      this.#open--;
      reached?.giveUp();
      return;
    }
    this.#join(stream, reached);
  }

  #join(stream: TunnelStream, reached: Reached | undefined): void {
    if (reached) {
      // Where all are in one, the caller has said its first words already.
      stream.sendSoon(tunnelCode.dialOk);
    } else {
      stream.send(tunnelCode.dialReject);
    }
    const handlers = reached?.join(stream) ?? refused;
    const { onClose } = handlers;
    stream.start({
      ...handlers,
      onClose: (error) => {
        this.#open--;
        onClose(error);
      },
    });
    if (!reached) {
      stream.endSend();
    }
  }

  /** What is refused here the application answers. */
  async #dial(id: ConnId): Promise<Reached | undefined> {
    const { log, isAllowed } = this.#deps;
    const host = formatIp(id.destination);
    const port = id.destinationPort;
    if (this.#open > maxConnections) {
      return undefined;
    }
    if (!isAllowed(host, port, id.protocol === 'udp' ? 'UDP' : 'TCP')) {
      log.warn('a dial to something that is not attached was refused', { host, port });
      return undefined;
    }
    return this.#reach(id);
  }

  /** Undefined when no program of this machine takes it. */
  async #reach(id: ConnId): Promise<Reached | undefined> {
    const { clock, log, hasUdpPort = isUdpPortBound } = this.#deps;
    const port = id.destinationPort;
    if (id.protocol === 'udp') {
      if ((await hasUdpPort(port)) === false) {
        log.debug('no local program has the UDP port', { port });
        return undefined;
      }
      const socket = await openDatagrams(id.destination, port);
      return socket && { join: (stream) => socket.join(stream, clock), giveUp: socket.close };
    }
    const outcome = await this.#dialTcp(id.destination, port);
    if (outcome.result !== 'ok') {
      log.debug('the local program refused', { port, result: outcome.result });
      return undefined;
    }
    const { socket } = outcome;
    return { join: (stream) => relaySocket(socket, stream), giveUp: () => void socket.destroy() };
  }

  /** Programs that listen on “localhost” may have only its IPv6 address. */
  async #dialTcp(destination: IpBytes, port: number): Promise<DialOutcome> {
    const { clock } = this.#deps;
    const outcome = await dialTcp(clock, destination, port, localDialTimeoutMs);
    return outcome.result === 'refused' && formatIp(destination) === loopback4
      ? dialTcp(clock, loopback6, port, localDialTimeoutMs)
      : outcome;
  }
}
