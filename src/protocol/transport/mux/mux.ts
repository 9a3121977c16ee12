import type { Duplex } from 'node:stream';
import type { Clock, Disposable, NearfieldError } from '../../../base/index.ts';
import { malformedStream, streamBroken } from '../../errors.ts';
import { parseStreamInfo, type StreamInfo, serializeStreamInfo } from '../../tunnel/index.ts';
import { askNow, keepAlive, type Living } from '../alive.ts';
import type { TunnelOpener } from '../client.ts';
import { passed } from '../litter.ts';
import { type MuxCarrier, MuxConnection, overdraftBytes } from './connection.ts';
import {
  joinSmall,
  MuxDecoder,
  maxPieceBytes,
  muxCode,
  muxFrame,
  muxFrameBytes,
  muxHeader,
  smallBodyBytes,
} from './frame.ts';

/** What may wait in front of the network; beyond, senders wait. */
const maxUnsentBytes = 256 * 1024;
/** What waits for readers of all connections together; beyond, nothing more is read until they have gone on. */
const maxHeldBytes = 64 * 1024 * 1024;
/** Who reads nothing hears no question either: it says that it is there before somebody gives it up. */
const sayAliveMs = 2_000;
const maxConnections = 10_000;
/** Beyond what its connections may have unsent, who asks and asks and takes no answer is given up. */
const maxAnswersBytes = 8 * 1024 * 1024;
const nothing = new Uint8Array(0);

/** Somebody at the far end has opened a connection. Must call `start` sooner or later. */
export type OnOpen = (connection: MuxConnection, info: StreamInfo) => void;

export interface MuxOptions {
  /** Whoever asked for it is the client; both may open connections. */
  readonly side: 'client' | 'server';
  readonly clock: Clock;
  /** Takes what the far end opens. Without it the far end must open none. */
  readonly onOpen?: OnOpen | undefined;
}

/**
 * Many connections in one. A stream of HTTP/2 for each costs a third of a millisecond at either end before it has said
 * a word, and each word a write of its own; here what many have to say in one turn leaves in one piece. Each connection
 * has its own window, so that one whose reader stands still holds up no other. The duplex is read as long as there is
 * room, whatever waits to leave, so that bulk in both directions never stands still.
 */
export class Mux implements TunnelOpener {
  /** Once; without an error it ended in order. */
  readonly closed: Promise<NearfieldError | undefined>;
  readonly #stream: Duplex;
  readonly #clock: Clock;
  readonly #onOpen: OnOpen | undefined;
  readonly #connections = new Map<number, MuxConnection>();
  readonly #waiting = new Set<MuxConnection>();
  readonly #carrier: MuxCarrier;
  readonly #living: Living;
  /** Of the numbers of connections that are opened here: 1 when they are odd. */
  readonly #parity: number;
  #lastNumber: number;
  #pieces: Uint8Array[] = [];
  #unsentBytes = 0;
  #heldBytes = 0;
  #bytesRead = 0;
  #bytesWritten = 0;
  /** Nothing new is opened here. */
  #isLeaving = false;
  /** The far end waits for the last one to be over. */
  #isAskedToLeave = false;
  /** What has been said leaves at the end of this turn. */
  #isLeavingSoon = false;
  /** Whoever waits for a sign of life. */
  #asking: (() => void)[] = [];
  /** While nothing is read. */
  #sayingAlive: Disposable | undefined;
  #failure: NearfieldError | undefined;

  constructor(stream: Duplex, { side, clock, onOpen }: MuxOptions) {
    this.#stream = stream;
    this.#clock = clock;
    this.#onOpen = onOpen;
    this.#parity = side === 'client' ? 1 : 0;
    this.#lastNumber = this.#parity - 2;
    this.#carrier = this.#makeCarrier();
    const decoder = new MuxDecoder({
      data: (number, slice, last) => this.#check(this.#connections.get(number)?.receiveData(slice, last)),
      control: (code, number, body) => this.#check(this.#control(code, number, body)),
    });
    const closed = Promise.withResolvers<NearfieldError | undefined>();
    this.closed = closed.promise;
    stream.on('data', (chunk: Buffer) => {
      passed(chunk.length);
      this.#bytesRead += chunk.length;
      this.#check(this.#failure ? undefined : decoder.push(chunk));
    });
    stream.on('drain', () => this.#wake());
    stream.on('end', () => void stream.end());
    stream.on('error', () => undefined);
    this.#living = this.#makeLiving();
    const life = keepAlive(this.#living, clock);
    const over = (): void => {
      void life.dispose();
      void this.#sayingAlive?.dispose();
      const isOver = this.#isLeaving && this.#connections.size === 0;
      const error = this.#failure ?? (isOver ? undefined : streamBroken('the connection ended'));
      this.#isLeaving = true;
      if (error) {
        for (const connection of [...this.#connections.values()]) {
          connection.lose(error);
        }
      }
      closed.resolve(error);
    };
    if (stream.destroyed) {
      over();
    } else {
      stream.once('close', over);
    }
  }

  /**
   * Undefined when no more are taken here. `isFollowed`: its first bytes may be here in the next turn of the loop; then they
   * leave together, and wake everybody on their way once.
   */
  open(info: StreamInfo, isFollowed = false): MuxConnection | undefined {
    if (this.#isLeaving || this.#stream.destroyed || this.#connections.size >= maxConnections) {
      return undefined;
    }
    do {
      this.#lastNumber = (this.#lastNumber + 2) >>> 0;
    } while (this.#lastNumber === 0 || this.#connections.has(this.#lastNumber));
    const connection = this.#add(this.#lastNumber);
    this.#write(muxCode.streamInfo, connection.number, serializeStreamInfo(info), isFollowed);
    return connection;
  }

  /** Asks for no new connections; all ends when those that are open are over. */
  leave(): void {
    if (!this.#isLeaving) {
      this.#isLeaving = true;
      this.#write(muxCode.leave, 0, nothing);
    }
  }

  /** Gives up every connection. */
  close(): void {
    this.#stream.destroy();
  }

  /** Ends within seconds unless the far end is there. */
  check(): void {
    askNow(this.#living, this.#clock);
  }

  /** Connections that are open. */
  get size(): number {
    return this.#connections.size;
  }

  #add(number: number): MuxConnection {
    const connection = new MuxConnection(number, this.#carrier);
    this.#connections.set(number, connection);
    return connection;
  }

  #control(code: number, number: number, body: Uint8Array): string | undefined {
    if (this.#backlog > maxAnswersBytes + this.#connections.size * (maxPieceBytes + overdraftBytes)) {
      return 'answers that nobody takes';
    }
    switch (code) {
      case muxCode.streamInfo:
        return this.#take(number, body);
      case muxCode.leave:
        this.#isLeaving = true;
        this.#isAskedToLeave = true;
        this.#endWhenOver();
        return undefined;
      case muxCode.ping:
        this.#sayAlive();
        return undefined;
      case muxCode.pong:
        this.#heardAlive();
        return undefined;
      default:
        // What was on its way to a connection that is over is for nobody.
        return this.#connections.get(number)?.receive(code, body);
    }
  }

  #take(number: number, body: Uint8Array): string | undefined {
    const info = parseStreamInfo(body);
    const isTheirs = number !== 0 && number % 2 !== this.#parity;
    if (!this.#onOpen || !info || !isTheirs || this.#connections.has(number)) {
      return 'a connection that cannot be opened';
    }
    if (this.#connections.size >= maxConnections) {
      return 'too many connections';
    }
    this.#onOpen(this.#add(number), info);
    return undefined;
  }

  #check(why: string | undefined): void {
    if (why && !this.#failure) {
      this.#failure = malformedStream(why);
      this.#stream.destroy();
    }
  }

  #makeCarrier(): MuxCarrier {
    return {
      hasRoom: () => this.#hasRoom,
      write: (code, connection, body, isPatient) => this.#write(code, connection, body, isPatient),
      waitForRoom: (connection) => void this.#waiting.add(connection),
      held: (bytes) => this.#hold(bytes),
      forget: (connection) => {
        this.#connections.delete(connection.number);
        this.#waiting.delete(connection);
        this.#endWhenOver();
      },
    };
  }

  #makeLiving(): Living {
    const stream = this.#stream;
    return {
      get isOver() {
        return stream.destroyed;
      },
      bytes: () => ({ bytesRead: this.#bytesRead, bytesWritten: this.#bytesWritten - stream.writableLength }),
      ask: (answered) => {
        this.#asking.push(answered);
        if (this.#sayingAlive) {
          this.#heardAlive();
        } else {
          this.#write(muxCode.ping, 0, nothing);
        }
      },
      giveUp: () => void stream.destroy(),
      onOver: (listener) => void this.closed.then(listener),
    };
  }

  /** Who was asked to open no more ends it all after the last one. */
  #endWhenOver(): void {
    if (this.#isAskedToLeave && this.#connections.size === 0) {
      setImmediate(() => {
        this.#flush();
        this.#stream.end();
      });
    }
  }

  get #backlog(): number {
    return this.#unsentBytes + this.#stream.writableLength;
  }

  get #hasRoom(): boolean {
    return this.#backlog < maxUnsentBytes;
  }

  #write(code: number, connection: number, body: Uint8Array, isPatient = false): void {
    // After everything that this turn brings, and what nobody waits for after the next one, which often has what follows: what
    // all have to say leaves together, and wakes the far end once.
    if (!isPatient && !this.#isLeavingSoon) {
      this.#isLeavingSoon = true;
      setImmediate(this.#flush);
    } else if (isPatient && this.#pieces.length === 0) {
      setImmediate(setImmediate, this.#flush);
    }
    if (body.length <= smallBodyBytes) {
      this.#pieces.push(muxFrame(code, connection, body));
    } else {
      passed(body.length);
      this.#pieces.push(muxHeader(code, connection, body.length), body);
    }
    this.#unsentBytes += muxFrameBytes + body.length;
  }

  readonly #flush = (): void => {
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#unsentBytes = 0;
    this.#isLeavingSoon = false;
    if (pieces.length === 0 || this.#stream.destroyed || this.#stream.writableEnded) {
      return;
    }
    this.#stream.cork();
    for (const piece of joinSmall(pieces)) {
      this.#bytesWritten += piece.length;
      this.#stream.write(piece);
    }
    this.#stream.uncork();
    if (this.#hasRoom) {
      this.#wake();
    }
  };

  #wake(): void {
    for (const connection of this.#waiting) {
      if (!this.#hasRoom) {
        return;
      }
      this.#waiting.delete(connection);
      connection.drain();
    }
  }

  #hold(bytes: number): void {
    const before = this.#heldBytes;
    this.#heldBytes += bytes;
    if (before <= maxHeldBytes && this.#heldBytes > maxHeldBytes) {
      this.#stream.pause();
      this.#sayingAlive = this.#clock.every(sayAliveMs, () => this.#sayAlive());
      // No answer will be read; but who sends so much is there.
      this.#heardAlive();
    } else if (before > maxHeldBytes && this.#heldBytes <= maxHeldBytes) {
      void this.#sayingAlive?.dispose();
      this.#sayingAlive = undefined;
      this.#stream.resume();
    }
  }

  /** Where there is no room for it other bytes are on their way, which say the same. */
  #sayAlive(): void {
    if (this.#hasRoom) {
      this.#write(muxCode.pong, 0, nothing);
    }
  }

  #heardAlive(): void {
    for (const answered of this.#asking.splice(0)) {
      answered();
    }
  }
}
