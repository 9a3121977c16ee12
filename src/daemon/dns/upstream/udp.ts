import { randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { type Logger, toError } from '../../../base/index.ts';
import { upstreamFailed } from '../../errors.ts';
import { idOf } from '../codec.ts';
import { isAnswerTo } from '../peek.ts';
import type { Attempt, Link } from './exchange.ts';

export interface UdpLinkOptions {
  readonly address: string;
  readonly port: number;
  readonly sourcePorts: readonly number[];
  readonly log: Logger;
}

/** Sockets that questions leave from in turn: whoever forges an answer must guess the port as well as the id. */
const maxSockets = 4;
const idAttempts = 32;

interface Waiting {
  readonly message: Buffer;
  readonly attempt: Attempt;
}

/** A socket connected to the resolver: the kernel lets in what comes from its address and port, and nothing else. */
interface Open {
  readonly socket: Socket;
  readonly waiting: Map<number, Waiting>;
}

/** One resolver over UDP. Sockets are opened with the first question. */
export class UdpLink implements Link {
  readonly #options: UdpLinkOptions;
  #opening: Promise<void> | undefined;
  #open: Open[] = [];
  #isDisposed = false;

  constructor(options: UdpLinkOptions) {
    this.#options = options;
  }

  ask(message: Buffer, attempt: Attempt): () => void {
    if (this.#open.length > 0 || this.#isDisposed) {
      return this.#send(message, attempt);
    }
    let giveUp: (() => void) | undefined;
    let isGivenUp = false;
    this.#opening ??= this.#openAll().finally(() => {
      this.#opening = undefined;
    });
    void this.#opening.then(() => {
      if (!isGivenUp) {
        giveUp = this.#send(message, attempt);
      }
    });
    return () => {
      isGivenUp = true;
      giveUp?.();
    };
  }

  dispose(): void {
    this.#isDisposed = true;
    for (const open of this.#open.splice(0)) {
      this.#end(open, upstreamFailed('the resolver is no longer asked'));
    }
  }

  #send(message: Buffer, attempt: Attempt): () => void {
    const open = this.#open[this.#open.length > 1 ? randomInt(this.#open.length) : 0];
    const id = open && freeId(open.waiting);
    if (!open || id === undefined) {
      attempt.failed(upstreamFailed(open ? 'too many questions are waiting' : 'no source port is free'));
      return () => undefined;
    }
    const waiting: Waiting = { message, attempt };
    const giveUp = (): void => {
      if (open.waiting.get(id) === waiting) {
        open.waiting.delete(id);
      }
    };
    open.waiting.set(id, waiting);
    // Ids are ours on the way, so that two programs with the same one do not meet, and none can be foretold.
    const copy = Buffer.from(message);
    copy.writeUInt16BE(id, 0);
    open.socket.send(copy, (error) => {
      if (error) {
        giveUp();
        attempt.failed(error);
      }
    });
    return giveUp;
  }

  async #openAll(): Promise<void> {
    const ports = this.#options.sourcePorts.length > 0 ? [...this.#options.sourcePorts] : [0, 0, 0, 0];
    const opened: Open[] = [];
    while (opened.length < maxSockets && ports.length > 0) {
      const [port = 0] = ports.splice(randomInt(ports.length), 1);
      const open = await this.#openOne(port).catch((error: unknown) => {
        this.#options.log.debug('a source port cannot be used', { port, error });
        return undefined;
      });
      if (open) {
        opened.push(open);
      }
    }
    this.#open = opened;
    if (this.#isDisposed) {
      this.dispose();
    }
  }

  #openOne(sourcePort: number): Promise<Open> {
    const { address, port } = this.#options;
    const type = address.includes(':') ? 'udp6' : 'udp4';
    const lookup = (host: string, _: unknown, done: (error: null, address: string, family: number) => void): void =>
      done(null, host, type === 'udp4' ? 4 : 6);
    const socket = createSocket({ type, ipv6Only: type === 'udp6', lookup });
    const open: Open = { socket, waiting: new Map() };
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => {
        this.#end(open, error);
        reject(toError(error));
      };
      socket.once('error', fail);
      socket.once('connect', () => {
        socket.off('error', fail);
        socket.on('error', (error) => this.#refused(open, error));
        socket.on('message', (answer) => receive(open, answer));
        resolve(open);
      });
      socket.bind(sourcePort, () => socket.connect(port, address));
    });
  }

  /** The kernel says that nobody listens there, or that there is no way: so for every question of that socket. */
  #refused(open: Open, error: unknown): void {
    for (const [id, { attempt }] of [...open.waiting]) {
      open.waiting.delete(id);
      attempt.failed(error);
    }
  }

  #end(open: Open, error: unknown): void {
    this.#refused(open, error);
    try {
      open.socket.close();
    } catch {
      // It never opened.
    }
  }
}

function receive({ waiting }: Open, answer: Buffer): void {
  const id = answer.length >= 2 ? idOf(answer) : -1;
  const found = waiting.get(id);
  // The id may have been guessed: the wait goes on until the answer is one to this question.
  if (found && isAnswerTo(found.message, answer)) {
    waiting.delete(id);
    answer.writeUInt16BE(idOf(found.message), 0);
    found.attempt.answered(answer);
  }
}

/** Random, and free; undefined when nearly all are taken. */
export function freeId(taken: ReadonlyMap<number, unknown>): number | undefined {
  for (let attempt = 0; attempt < idAttempts; attempt++) {
    const id = randomInt(0x1_0000);
    if (!taken.has(id)) {
      return id;
    }
  }
  return undefined;
}
