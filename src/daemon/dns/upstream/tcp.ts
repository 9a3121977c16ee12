import { randomInt } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import type { Clock, Disposable } from '../../../base/index.ts';
import { upstreamFailed } from '../../errors.ts';
import { idOf } from '../codec.ts';
import { isAnswerTo } from '../peek.ts';
import { frame, MessageReader } from '../stream.ts';
import type { Attempt, Link } from './exchange.ts';
import { freeId } from './udp.ts';

export interface TcpLinkOptions {
  readonly address: string;
  readonly port: number;
  readonly sourcePorts: readonly number[];
  readonly clock: Clock;
}

const idleMs = 5_000;
const maxWaiting = 256;

interface Waiting {
  readonly message: Buffer;
  readonly attempt: Attempt;
  isSecondTry: boolean;
}

/**
 * One resolver over TCP: one connection, questions one behind the other (RFC 7766 §6.2.1). The source ports are few,
 * and a connection that we close keeps its port for a minute: so it is kept while it is used, and reset at the end.
 */
export class TcpLink implements Link {
  readonly #options: TcpLinkOptions;
  #connection: Connection | undefined;
  #nextPort = 0;
  #isDisposed = false;

  constructor(options: TcpLinkOptions) {
    this.#options = options;
    this.#nextPort = randomInt(Math.max(1, options.sourcePorts.length));
  }

  ask(message: Buffer, attempt: Attempt): () => void {
    const waiting: Waiting = { message, attempt, isSecondTry: false };
    this.#ask(waiting);
    return () => this.#connection?.forget(waiting);
  }

  dispose(): void {
    this.#isDisposed = true;
    this.#connection?.end(upstreamFailed('the resolver is no longer asked'));
    this.#connection = undefined;
  }

  #ask(waiting: Waiting): void {
    if (this.#isDisposed) {
      waiting.attempt.failed(upstreamFailed('the resolver is no longer asked'));
      return;
    }
    this.#connection ??= this.#connect(this.#options.sourcePorts.length);
    this.#connection.ask(waiting);
  }

  /** `portsLeft`: another program may hold a port, so that the next one is tried. */
  #connect(portsLeft: number): Connection {
    const { address, port, sourcePorts, clock } = this.#options;
    const localPort = sourcePorts[this.#nextPort++ % Math.max(1, sourcePorts.length)];
    const socket = connect({ host: address, port, noDelay: true, ...(localPort ? { localPort } : {}) });
    const connection = new Connection(socket, clock, (error, left) => {
      if (this.#connection === connection) {
        this.#connection = undefined;
      }
      if (isPortTaken(error) && portsLeft > 1) {
        this.#connection ??= this.#connect(portsLeft - 1);
        for (const waiting of left) {
          this.#connection.ask(waiting);
        }
        return;
      }
      for (const waiting of left) {
        // A server may end a connection that it has answered on, just when the next question is on its way.
        if (connection.wasUseful && !waiting.isSecondTry) {
          waiting.isSecondTry = true;
          this.#ask(waiting);
        } else {
          waiting.attempt.failed(error);
        }
      }
    });
    return connection;
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #closed: (error: unknown, left: readonly Waiting[]) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #reader = new MessageReader();
  #idle: Disposable | undefined;
  #isOver = false;
  wasUseful = false;

  constructor(socket: Socket, clock: Clock, closed: (error: unknown, left: readonly Waiting[]) => void) {
    this.#socket = socket;
    this.#clock = clock;
    this.#closed = closed;
    socket.on('error', (error) => this.#over(error));
    socket.on('close', () => this.#over(upstreamFailed('the resolver closed the connection')));
    socket.on('data', (chunk) => {
      this.#reader.push(chunk);
      for (let answer = this.#reader.read(); answer; answer = this.#reader.read()) {
        this.#receive(answer);
      }
    });
  }

  ask(waiting: Waiting): void {
    const id = this.#waiting.size < maxWaiting ? freeId(this.#waiting) : undefined;
    if (id === undefined || this.#isOver) {
      waiting.attempt.failed(upstreamFailed('too many questions are waiting'));
      return;
    }
    this.#waiting.set(id, waiting);
    void this.#idle?.dispose();
    this.#idle = undefined;
    const framed = frame(waiting.message);
    framed.writeUInt16BE(id, 2);
    this.#socket.write(framed);
  }

  forget(waiting: Waiting): void {
    for (const [id, each] of this.#waiting) {
      if (each === waiting) {
        this.#waiting.delete(id);
      }
    }
    this.#restWhenIdle();
  }

  /** What waits fails. */
  end(error: unknown): void {
    const left = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#over(error);
    for (const { attempt } of left) {
      attempt.failed(error);
    }
  }

  #receive(answer: Buffer): void {
    const id = answer.length >= 2 ? idOf(answer) : -1;
    const found = this.#waiting.get(id);
    if (found && isAnswerTo(found.message, answer)) {
      this.#waiting.delete(id);
      this.wasUseful = true;
      answer.writeUInt16BE(idOf(found.message), 0);
      this.#restWhenIdle();
      found.attempt.answered(answer);
    }
  }

  #restWhenIdle(): void {
    if (this.#waiting.size === 0 && !this.#isOver) {
      void this.#idle?.dispose();
      this.#idle = this.#clock.after(idleMs, () => this.#over(undefined));
    }
  }

  #over(error: unknown): void {
    if (this.#isOver) {
      return;
    }
    this.#isOver = true;
    void this.#idle?.dispose();
    // A reset leaves no TIME_WAIT behind, which would hold the port.
    this.#socket.resetAndDestroy();
    this.#closed(error, [...this.#waiting.values()]);
  }
}

function isPortTaken(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'EADDRINUSE' || error.code === 'EADDRNOTAVAIL');
}
