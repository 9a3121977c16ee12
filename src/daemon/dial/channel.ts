import { createServer, type Server, type Socket } from 'node:net';
import type { Clock, Disposable, Logger } from '../../base/index.ts';
import { type DialFrame, DialFrameReader, DialFrameWriter } from '../../protocol/index.ts';

/** Unsent bytes beyond which datagrams are dropped and new dials answered as unreachable. */
const maxUnsentBytes = 8 * 1024 * 1024;
const helloTimeoutMs = 3_000;
const maxStrangers = 8;

export interface DialServerOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** The client that a token belongs to; called once per connection. */
  readonly claim: (token: string) => DialClient | undefined;
}

export interface DialClient {
  connected(channel: DialChannel): void;
  received(frame: DialFrame): void;
  /** All frames that have arrived so far were received. */
  flushed(): void;
  closed(): void;
}

/** The daemon's end of one connector's dial channel. */
export class DialChannel {
  readonly #socket: Socket;
  readonly #writer: DialFrameWriter;
  #isFlushing = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#writer = new DialFrameWriter((bytes) => {
      socket.write(bytes);
      // Nothing waits: the kernel has the bytes.
      return socket.writableLength === 0;
    });
  }

  /** False when the connector does not read fast enough, or is gone. Frames of one turn of the loop leave together. */
  send(frame: DialFrame): boolean {
    if (this.#socket.destroyed || this.#socket.writableLength > maxUnsentBytes) {
      return false;
    }
    this.#writer.put(frame);
    if (!this.#isFlushing) {
      this.#isFlushing = true;
      process.nextTick(() => {
        this.#isFlushing = false;
        this.#writer.flush();
      });
    }
    return true;
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Accepts dial channels. A connection says hello with its token first, and within a moment, or is ended. */
export function createDialServer(options: DialServerOptions): Server {
  let strangers = 0;
  return createServer((socket) => {
    if (++strangers > maxStrangers) {
      strangers--;
      socket.destroy();
      return;
    }
    accept(socket, options, () => {
      strangers--;
    });
  });
}

function accept(socket: Socket, { clock, log, claim }: DialServerOptions, known: () => void): void {
  const reader = new DialFrameReader();
  let client: DialClient | undefined;
  const identified = (): void => {
    void timer.dispose();
    known();
  };
  const timer: Disposable = clock.after(helloTimeoutMs, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    reader.push(chunk);
    for (let read = reader.read(); read.kind !== 'need-more'; read = reader.read()) {
      if (read.kind === 'malformed') {
        log.warn('dial channel ended: malformed frame', { why: read.why });
        socket.destroy();
        return;
      }
      if (client) {
        client.received(read.value);
      } else {
        client = read.value.type === 'hello' ? claim(read.value.token) : undefined;
        if (!client) {
          log.warn('dial channel refused');
          socket.destroy();
          return;
        }
        identified();
        client.connected(new DialChannel(socket));
      }
    }
    client?.flushed();
  });
  socket.on('close', () => {
    if (client) {
      client.closed();
    } else {
      identified();
    }
  });
}
