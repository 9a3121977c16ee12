import type { Duplex } from 'node:stream';
import type { NearfieldError } from '../../../base/index.ts';
import { malformedStream, streamBroken } from '../../errors.ts';
import { parseStreamInfo, type StreamInfo, serializeStreamInfo } from '../../tunnel/index.ts';
import { passed } from '../litter.ts';
import { type MuxCarrier, MuxConnection } from './connection.ts';
import { MuxDecoder, muxCode, muxFrame, muxHeader } from './frame.ts';

/** Below, one piece of a copy is cheaper than two. */
const smallBodyBytes = 1024;
/** What may wait in front of the network; beyond, senders wait. */
const maxUnsentBytes = 256 * 1024;
/** What waits for readers of all connections together; beyond, nothing more is read until they have gone on. */
const maxHeldBytes = 64 * 1024 * 1024;
const maxConnections = 10_000;
const nothing = new Uint8Array(0);

/** Somebody at the far end has opened a connection. Must call `start` sooner or later. */
export type OnOpen = (connection: MuxConnection, info: StreamInfo) => void;

/**
 * Many connections in one stream. A stream of HTTP/2 for each costs a third of a millisecond at either end before it has said
 * a word, and each word a write of its own; here what many have to say in one turn leaves in one piece. Each connection
 * has its own window, so that one whose reader stands still holds up no other.
 *
 * One end opens connections, the other one (with `onOpen`) takes them.
 */
export class Mux {
  /** Once; without an error the stream ended in order. */
  readonly closed: Promise<NearfieldError | undefined>;
  readonly #stream: Duplex;
  readonly #onOpen: OnOpen | undefined;
  readonly #connections = new Map<number, MuxConnection>();
  readonly #waiting = new Set<MuxConnection>();
  readonly #carrier: MuxCarrier;
  #lastNumber = 0;
  #pieces: Uint8Array[] = [];
  #unsentBytes = 0;
  #heldBytes = 0;
  #isLeaving = false;
  /** What has been said leaves at the end of this turn. */
  #isLeavingSoon = false;
  #failure: NearfieldError | undefined;

  constructor(stream: Duplex, onOpen?: OnOpen) {
    this.#stream = stream;
    this.#onOpen = onOpen;
    this.#carrier = this.#makeCarrier();
    const decoder = new MuxDecoder({
      data: (number, slice, last) => this.#check(this.#connections.get(number)?.receiveData(slice, last)),
      control: (code, number, body) => this.#check(this.#control(code, number, body)),
    });
    stream.on('data', (chunk: Buffer) => {
      passed(chunk.length);
      this.#check(this.#failure ? undefined : decoder.push(chunk));
    });
    stream.on('drain', () => this.#wake());
    stream.on('end', () => void stream.end());
    stream.on('error', () => undefined);
    const closed = Promise.withResolvers<NearfieldError | undefined>();
    this.closed = closed.promise;
    stream.once('close', () => {
      const isOver = this.#isLeaving && this.#connections.size === 0;
      const error = this.#failure ?? (isOver ? undefined : streamBroken('the connection ended'));
      this.#isLeaving = true;
      if (error) {
        for (const connection of [...this.#connections.values()]) {
          connection.lose(error);
        }
      }
      closed.resolve(error);
    });
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
      this.#lastNumber = (this.#lastNumber + 1) >>> 0;
    } while (this.#lastNumber === 0 || this.#connections.has(this.#lastNumber));
    const connection = this.#add(this.#lastNumber);
    this.#write(muxCode.streamInfo, connection.number, serializeStreamInfo(info), isFollowed);
    return connection;
  }

  /** Asks for no new connections; the stream ends when those that are open are over. */
  leave(): void {
    if (!this.#isLeaving) {
      this.#isLeaving = true;
      this.#carrier.write(muxCode.leave, 0, nothing);
    }
  }

  /** Gives up the stream, and with it every connection. */
  close(): void {
    this.#stream.destroy();
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
    if (code === muxCode.streamInfo) {
      const info = parseStreamInfo(body);
      if (!this.#onOpen || !info || number === 0 || this.#connections.has(number)) {
        return 'a connection that cannot be opened';
      }
      if (this.#connections.size >= maxConnections) {
        return 'too many connections';
      }
      this.#onOpen(this.#add(number), info);
      return undefined;
    }
    if (code === muxCode.leave) {
      this.#isLeaving = true;
      this.#endWhenOver();
      return undefined;
    }
    // What was on its way to a connection that is over is for nobody.
    return this.#connections.get(number)?.receive(code, body);
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

  /** Who was asked to open no more ends the stream after the last one. */
  #endWhenOver(): void {
    if (this.#isLeaving && !this.#onOpen && this.#connections.size === 0) {
      setImmediate(() => {
        this.#flush();
        this.#stream.end();
      });
    }
  }

  get #hasRoom(): boolean {
    return this.#unsentBytes + this.#stream.writableLength < maxUnsentBytes;
  }

  #write(code: number, connection: number, body: Uint8Array, isPatient = false): void {
    // After everything that this turn brings, and what nobody waits for after the next one, which often has what follows: what
    // all have to say leaves together, and wakes the far end once.
    const flush = (): void => this.#flush();
    if (!isPatient && !this.#isLeavingSoon) {
      this.#isLeavingSoon = true;
      setImmediate(flush);
    } else if (isPatient && this.#pieces.length === 0) {
      setImmediate(() => setImmediate(flush));
    }
    if (body.length <= smallBodyBytes) {
      this.#pieces.push(muxFrame(code, connection, body));
    } else {
      passed(body.length);
      this.#pieces.push(muxHeader(code, connection, body.length), body);
    }
    this.#unsentBytes += body.length;
  }

  #flush(): void {
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#unsentBytes = 0;
    this.#isLeavingSoon = false;
    if (pieces.length === 0 || this.#stream.destroyed || this.#stream.writableEnded) {
      return;
    }
    this.#stream.cork();
    for (const piece of joinSmall(pieces)) {
      this.#stream.write(piece);
    }
    this.#stream.uncork();
    if (this.#hasRoom) {
      this.#wake();
    }
  }

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
    } else if (before > maxHeldBytes && this.#heldBytes <= maxHeldBytes) {
      this.#stream.resume();
    }
  }
}

/** Neighbours that are small become one piece. */
function joinSmall(pieces: readonly Uint8Array[]): Uint8Array[] {
  const joined: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  const close = (): void => {
    if (small.length > 0) {
      joined.push(small.length === 1 ? (small[0] ?? nothing) : Buffer.concat(small));
      small = [];
    }
  };
  for (const piece of pieces) {
    if (piece.length > 2 * smallBodyBytes) {
      close();
      joined.push(piece);
    } else {
      small.push(piece);
    }
  }
  close();
  return joined;
}
