import type { Socket } from 'node:net';
import { ChunkList, type Clock, type Disposable } from '../../base/index.ts';

const prefixBytes = 2;

/** Messages over TCP: each behind its length (RFC 1035 §4.2.2). */
export class MessageReader {
  readonly #chunks = new ChunkList();

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
  }

  /** The next whole message, or undefined while there is none. The bytes are the caller's. */
  read(): Buffer | undefined {
    const prefix = this.#chunks.peek(prefixBytes);
    const length = prefix ? ((prefix[0] ?? 0) << 8) | (prefix[1] ?? 0) : 0;
    if (!prefix || this.#chunks.length < prefixBytes + length) {
      return undefined;
    }
    this.#chunks.skip(prefixBytes);
    return Buffer.from(this.#chunks.take(length) ?? []);
  }
}

export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(prefixBytes + message.length);
  framed.writeUInt16BE(message.length, 0);
  framed.set(message, prefixBytes);
  return framed;
}

export interface StreamOptions {
  readonly clock: Clock;
  readonly idleMs: number;
  /** Questions of one connection that may wait for an answer; then it is not read from. */
  readonly maxInFlight: number;
  readonly answer: (message: Buffer) => Buffer | undefined | Promise<Buffer | undefined>;
}

/** Answers that a client has not read; then its questions are not read either. */
const maxUnsentBytes = 256 * 1024;

/**
 * Serves one client. Questions may follow one another without waiting; each answer leaves when it is there (RFC 7766
 * §6.2.1.1). The connection ends when nothing is asked or answered for a while – half a message counts as nothing –
 * or when the client has ended its side and has its answers. Needs a socket that allows half-open.
 */
export function serveStream(socket: Socket, { clock, idleMs, maxInFlight, answer }: StreamOptions): void {
  const reader = new MessageReader();
  let inFlight = 0;
  let isEnded = false;
  let timer: Disposable | undefined;
  const rearm = (): void => {
    void timer?.dispose();
    timer = socket.destroyed ? undefined : clock.after(idleMs, () => socket.destroy());
  };
  const send = (reply: Buffer | undefined): void => {
    if (reply && !socket.destroyed) {
      socket.write(frame(reply));
      rearm();
    }
  };
  const work = (): void => {
    while (!socket.destroyed && inFlight < maxInFlight && socket.writableLength < maxUnsentBytes) {
      const message = reader.read();
      if (!message) {
        if (isEnded && inFlight === 0) {
          socket.end();
        } else {
          socket.resume();
        }
        return;
      }
      rearm();
      const reply = answer(message);
      if (reply instanceof Promise) {
        inFlight++;
        void reply.then((late) => {
          inFlight--;
          send(late);
          work();
        });
      } else {
        send(reply);
      }
    }
    socket.pause();
  };
  rearm();
  socket.on('error', () => socket.destroy());
  socket.on('close', () => void timer?.dispose());
  socket.on('drain', work);
  socket.on('data', (chunk) => {
    reader.push(chunk);
    work();
  });
  socket.on('end', () => {
    isEnded = true;
    work();
  });
}
