import { createSocket, type Socket } from 'node:dgram';
import { connect } from 'node:net';
import { type Clock, type Disposable, withTimeout } from '../../base/index.ts';

export interface Upstream extends Disposable {
  /** The upstream's answer, byte for byte. Rejects when there is none in time. */
  forward(message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer>;
}

export interface UpstreamOptions {
  readonly address: string;
  readonly clock: Clock;
  /** Source ports that the redirect lets pass: our own questions must not come back to us. */
  readonly sourcePorts: readonly number[];
}

const timeoutMs = 4_000;
const maxWaiting = 2_000;

/** Hands questions to the resolver that the machine had before. */
export class UpstreamResolver implements Upstream {
  readonly #options: UpstreamOptions;
  readonly #socket: Socket;
  readonly #waiting = new Map<number, (answer: Buffer) => void>();
  readonly #bound: Promise<void>;
  #nextId = Math.floor(Math.random() * 65_536);
  #nextPort = 0;

  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.#socket = createSocket(options.address.includes(':') ? 'udp6' : 'udp4');
    this.#socket.on('error', () => undefined);
    this.#socket.on('message', (message) => {
      const id = message.length > 2 ? message.readUInt16BE(0) : -1;
      this.#waiting.get(id)?.(message);
    });
    this.#bound = new Promise((resolve) => this.#socket.bind(options.sourcePorts[0] ?? 0, () => resolve()));
  }

  async forward(message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer> {
    await this.#bound;
    const ask = transport === 'udp' ? this.#overUdp : this.#overTcp;
    return withTimeout(this.#options.clock, timeoutMs, 'the upstream resolver', (signal) =>
      ask.call(this, message, signal),
    );
  }

  dispose(): void {
    this.#socket.close();
  }

  /** Ids are ours on the way, so that two programs with the same one do not meet. */
  #overUdp(message: Buffer, signal: AbortSignal): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const id = this.#freeId();
      if (id === undefined) {
        reject(new RangeError('too many questions are waiting'));
        return;
      }
      const original = message.readUInt16BE(0);
      const end = (): void => void this.#waiting.delete(id);
      signal.addEventListener('abort', end, { once: true });
      this.#waiting.set(id, (answer) => {
        end();
        const copy = Buffer.from(answer);
        copy.writeUInt16BE(original, 0);
        resolve(copy);
      });
      const copy = Buffer.from(message);
      copy.writeUInt16BE(id, 0);
      this.#socket.send(copy, 53, this.#options.address, (error) => {
        if (error) {
          end();
          reject(error);
        }
      });
    });
  }

  #freeId(): number | undefined {
    if (this.#waiting.size >= maxWaiting) {
      return undefined;
    }
    do {
      this.#nextId = (this.#nextId + 1) & 0xffff;
    } while (this.#waiting.has(this.#nextId));
    return this.#nextId;
  }

  #overTcp(message: Buffer, signal: AbortSignal): Promise<Buffer> {
    const { sourcePorts, address } = this.#options;
    // The first port is the UDP socket's; the others are taken in turn, so that one in TIME_WAIT is no obstacle.
    const localPort = sourcePorts[1 + (this.#nextPort++ % Math.max(1, sourcePorts.length - 1))];
    return new Promise((resolve, reject) => {
      const socket = connect({ host: address, port: 53, ...(localPort ? { localPort } : {}) });
      let received: Buffer = Buffer.alloc(0);
      signal.addEventListener('abort', () => socket.destroy(), { once: true });
      socket.on('error', reject);
      socket.on('close', () => reject(new RangeError('the upstream closed')));
      socket.on('data', (chunk) => {
        received = Buffer.concat([received, chunk]);
        if (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
          resolve(received.subarray(2, 2 + received.readUInt16BE(0)));
          socket.destroy();
        }
      });
      const prefix = Buffer.alloc(2);
      prefix.writeUInt16BE(message.length);
      socket.write(Buffer.concat([prefix, message]));
    });
  }
}
