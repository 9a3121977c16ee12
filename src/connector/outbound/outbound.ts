import type { ClientHttp2Session } from 'node:http2';
import { createServer, type Server, type Socket } from 'node:net';
import { type Clock, type Disposable, formatIp, type Logger, parseIp, unmapIp } from '../../base/index.ts';
import {
  type ConnId,
  type DialFrame,
  type DialQuestion,
  type DialResult,
  serializeStreamInfo,
  tunnelCode,
} from '../../protocol/index.ts';
import {
  dialResultTrailer,
  LateHandlers,
  openTunnel,
  relaySocket,
  resultOfTrailer,
  type TunnelStream,
} from '../../protocol/transport/index.ts';
import type { DaemonLink } from '../daemon-link/link.ts';

export interface OutboundDeps {
  readonly daemon: DaemonLink;
  readonly clock: Clock;
  readonly log: Logger;
  /** The connection to the manager and our session there, while there is one. */
  readonly tunnels: () => { readonly session: ClientHttp2Session; readonly sessionId: string } | undefined;
  /** A name's records, uncompressed; never rejects. */
  readonly lookup: (name: string, qtype: number) => Promise<{ readonly rcode: number; readonly records: Uint8Array }>;
}

const dialTimeoutMs = 5_000;
const roundtripLatencyMs = 2_000;
/** After a yes, the kernel connects within microseconds; what does not come is given up. */
const acceptTimeoutMs = 10_000;
const trailerTimeoutMs = 500;
const maxOpenDials = 2_000;
const backlog = 4_096;
const servfail = 2;

interface Waiting {
  readonly id: number;
  readonly stream: TunnelStream;
  readonly late: LateHandlers;
  readonly timer: Disposable;
}

/**
 * A local program's way into the cluster: answers the daemon's questions by opening tunnels, and accepts the
 * connections that the daemon has let in. A connection that nobody waits for is destroyed: any local user can reach
 * the listener.
 */
export class Outbound implements Disposable {
  readonly #deps: OutboundDeps;
  readonly #waiting = new Map<string, Waiting>();
  readonly #udp = new Map<number, TunnelStream>();
  /** What gives up a TCP dial that has not become a connection. */
  readonly #cancels = new Map<number, () => void>();
  readonly #servers: Server[] = [];
  readonly #subscription: Disposable;
  #openDials = 0;

  constructor(deps: OutboundDeps) {
    this.#deps = deps;
    this.#subscription = deps.daemon.onFrameReceived((frame) => this.#handle(frame));
  }

  /** Listens on one of the device's own addresses; resolves with the port. */
  listen(address: string): Promise<number> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) =>
      this.#accept(socket),
    );
    this.#servers.push(server);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: address, port: 0, backlog }, () => {
        const bound = server.address();
        resolve(typeof bound === 'object' && bound ? bound.port : 0);
      });
    });
  }

  dispose(): void {
    void this.#subscription.dispose();
    for (const server of this.#servers) {
      server.close();
    }
    for (const cancel of this.#cancels.values()) {
      cancel();
    }
    for (const stream of this.#udp.values()) {
      stream.reset();
    }
  }

  #handle(frame: DialFrame): void {
    switch (frame.type) {
      case 'dial':
        this.#dial(frame);
        break;
      case 'datagram': {
        const stream = this.#udp.get(frame.id);
        // A copy: the frame's bytes are reused, and the stream may keep them a while.
        stream?.sendData(Uint8Array.from(frame.payload));
        break;
      }
      case 'close':
        this.#udp.get(frame.id)?.reset();
        this.#udp.delete(frame.id);
        this.#cancels.get(frame.id)?.();
        break;
      case 'lookup':
        void this.#lookup(frame.id, frame.name, frame.qtype);
        break;
      default:
        break;
    }
  }

  async #lookup(id: number, name: string, qtype: number): Promise<void> {
    const { rcode, records } = await this.#deps
      .lookup(name, qtype)
      .catch(() => ({ rcode: servfail, records: new Uint8Array(0) }));
    this.#deps.daemon.send({ type: 'lookup-answer', id, rcode, records });
  }

  #dial(question: DialQuestion): void {
    const { daemon, tunnels } = this.#deps;
    const answer = (result: DialResult): void => daemon.send({ type: 'answer', id: question.id, result });
    const link = tunnels();
    if (!link || link.session.destroyed || this.#openDials >= maxOpenDials) {
      answer('unreachable');
      return;
    }
    const stream = openTunnel(link.session, 'manager');
    stream.send(
      tunnelCode.streamInfo,
      serializeStreamInfo({ id: connIdOf(question), sessionId: link.sessionId, dialTimeoutMs, roundtripLatencyMs }),
    );
    if (question.protocol === 'udp') {
      this.#startUdp(question, stream, answer);
    } else {
      this.#startTcp(question, stream, answer);
    }
  }

  #startTcp(question: DialQuestion, stream: TunnelStream, answer: (result: DialResult) => void): void {
    const { clock } = this.#deps;
    let isAnswered = false;
    this.#openDials++;
    const say = (result: DialResult): void => {
      if (!isAnswered) {
        isAnswered = true;
        this.#openDials--;
        void limit.dispose();
        if (result !== 'ok') {
          this.#cancels.delete(question.id);
        }
        answer(result);
      }
    };
    this.#cancels.set(question.id, () => {
      stream.reset();
      say('timeout');
    });
    const limit = clock.after(dialTimeoutMs + roundtripLatencyMs, () => {
      say('timeout');
      stream.reset();
    });
    const late = new LateHandlers({
      onControl: (code) => {
        if (code === tunnelCode.dialOk) {
          // Until the socket is accepted nothing more is read.
          stream.pause();
          this.#expect(question, stream, late);
          say('ok');
        } else if (code === tunnelCode.dialReject) {
          // The reason comes in the trailers, right behind.
          stream.endSend();
          clock.after(trailerTimeoutMs, () => say(resultOfTrailer(stream.trailers[dialResultTrailer])));
        }
      },
      onClose: (error) =>
        say(
          error && !stream.trailers[dialResultTrailer]
            ? 'unreachable'
            : resultOfTrailer(stream.trailers[dialResultTrailer]),
        ),
    });
    stream.start(late.handlers);
  }

  /** Waits for the socket that the daemon's yes lets in. */
  #expect(question: DialQuestion, stream: TunnelStream, late: LateHandlers): void {
    const key = keyOf(formatIp(question.destination), question.peerPort);
    const { id } = question;
    const cancel = (): void => {
      void timer.dispose();
      this.#waiting.delete(key);
      this.#cancels.delete(id);
      stream.reset();
      this.#deps.daemon.send({ type: 'close', id });
    };
    const timer = this.#deps.clock.after(acceptTimeoutMs, cancel);
    this.#cancels.set(id, cancel);
    this.#waiting.set(key, { id, stream, late, timer });
  }

  #accept(socket: Socket): void {
    socket.on('error', () => undefined);
    const peer = parseIp(socket.remoteAddress ?? '');
    const key = peer ? keyOf(formatIp(unmapIp(peer)), socket.remotePort ?? 0) : '';
    const waiting = this.#waiting.get(key);
    if (!waiting) {
      this.#deps.log.debug('a connection that nobody waits for was destroyed');
      socket.destroy();
      return;
    }
    const { id, stream, late, timer } = waiting;
    this.#waiting.delete(key);
    this.#cancels.delete(id);
    void timer.dispose();
    // The daemon ties its entry to the stream.
    late.attach(relaySocket(socket, stream, { onClosed: () => this.#deps.daemon.send({ type: 'close', id }) }));
    socket.resume();
    stream.resume();
  }

  #startUdp({ id }: DialQuestion, stream: TunnelStream, answer: (result: DialResult) => void): void {
    const { daemon } = this.#deps;
    let parts: Uint8Array[] = [];
    let isAnswered = false;
    const say = (result: DialResult): void => {
      if (!isAnswered) {
        isAnswered = true;
        answer(result);
      }
    };
    this.#udp.set(id, stream);
    stream.start({
      onControl: (code) => {
        if (code === tunnelCode.dialOk) {
          say('ok');
        } else if (code === tunnelCode.dialReject || code === tunnelCode.disconnect) {
          stream.endSend();
        }
      },
      onData: (slice, last) => {
        parts.push(slice);
        if (last) {
          daemon.send({ type: 'datagram', id, payload: parts.length === 1 ? slice : Buffer.concat(parts) });
          parts = [];
        }
      },
      onEnd: () => undefined,
      onDrain: () => undefined,
      onClose: () => {
        this.#udp.delete(id);
        const result = resultOfTrailer(stream.trailers[dialResultTrailer]);
        if (isAnswered) {
          daemon.send({ type: 'close', id });
        } else {
          say(result);
        }
      },
    });
  }
}

function connIdOf(question: DialQuestion): ConnId {
  const { protocol, source, sourcePort, destination, destinationPort } = question;
  return { protocol, source, sourcePort, destination, destinationPort };
}

const keyOf = (address: string, port: number): string => `${address} ${port}`;
