import { lookup } from 'node:dns/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { type Clock, type Disposable, equalBytes, type Logger, parseIp } from '../../base/index.ts';
import { SftpReader, type SftpRequest, serializeSftp } from '../../protocol/index.ts';
import type { Places } from './place.ts';
import { FileSession } from './session.ts';

export interface FileServerDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly places: Places;
  readonly podIp: string;
  readonly managerHost: string;
}

/** Each attachment has one for its copies and one for each mounted volume. */
const maxClients = 64;
/** The manager moves rarely. */
const addressesKeptMs = 10_000;

/**
 * The volumes by SFTP over plain TCP, as the public wire has it. The protocol knows no password, so that whoever connects
 * must come through a tunnel: from this pod, where the agent has asked who it is, or from the traffic-manager.
 */
export class FileServer implements Disposable {
  readonly #deps: FileServerDeps;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  #managers: { readonly atMs: number; readonly addresses: readonly string[] } | undefined;

  constructor(deps: FileServerDeps) {
    this.#deps = deps;
    this.#server = createServer({ noDelay: true, keepAlive: true, pauseOnConnect: true }, (socket) => {
      void this.#accept(socket);
    });
  }

  /** Answers the port. */
  listen(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host: this.#deps.podIp, port: 0 }, () => {
        const address = this.#server.address();
        resolve(typeof address === 'object' && address ? address.port : 0);
      });
    });
  }

  dispose(): void {
    this.#server.close();
    for (const socket of this.#clients) {
      socket.destroy();
    }
  }

  async #accept(socket: Socket): Promise<void> {
    const { log, places } = this.#deps;
    socket.on('error', () => undefined);
    if (this.#clients.size >= maxClients || !(await this.#isAllowed(socket.remoteAddress ?? ''))) {
      log.info('a client of the files was refused', { address: socket.remoteAddress });
      socket.destroy();
      return;
    }
    this.#clients.add(socket);
    const session = new FileSession(places);
    try {
      await serve(socket, session);
    } catch (error) {
      log.debug('a client of the files ended', { error });
    } finally {
      this.#clients.delete(socket);
      socket.destroy();
      await session.close();
    }
  }

  /** Not loopback: what a service mesh lets in from anywhere comes from there. */
  async #isAllowed(address: string): Promise<boolean> {
    const isOne = (each: string): boolean => isSame(each, address);
    if (isOne(this.#deps.podIp)) {
      return true;
    }
    return (await this.#managerAddresses()).some(isOne);
  }

  async #managerAddresses(): Promise<readonly string[]> {
    const { clock, managerHost } = this.#deps;
    if (!this.#managers || clock.nowMs() - this.#managers.atMs > addressesKeptMs) {
      const found = await lookup(managerHost, { all: true }).catch(() => []);
      this.#managers = { atMs: clock.nowMs(), addresses: found.map((each) => each.address) };
    }
    return this.#managers.addresses;
  }
}

function isSame(a: string, b: string): boolean {
  const [one, other] = [parseIp(a), parseIp(b)];
  return one !== undefined && other !== undefined && equalBytes(one, other);
}

/** One request after the other: a client that does not read its answers is not read either. */
async function serve(socket: Socket, session: FileSession): Promise<void> {
  const reader = new SftpReader();
  for await (const chunk of socket) {
    reader.push(chunk as Buffer);
    for (let read = reader.read(); read.kind !== 'need-more'; read = reader.read()) {
      if (read.kind === 'malformed' || isAnswer(read.value.type)) {
        return;
      }
      const answer = serializeSftp(await session.answer(read.value as SftpRequest));
      if (!socket.write(answer)) {
        await drained(socket);
      }
    }
  }
}

const answers = ['version', 'status', 'handle', 'data', 'name', 'attrs', 'extended-reply'];
const isAnswer = (type: string): boolean => answers.includes(type);

const drained = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    const end = (): void => {
      socket.off('drain', end);
      socket.off('close', end);
      resolve();
    };
    socket.once('drain', end);
    socket.once('close', end);
    if (socket.destroyed) {
      end();
    }
  });
