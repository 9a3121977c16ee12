import { createServer, type Server, type Socket } from 'node:net';
import type { Disposable, IpBytes, Logger } from '../../base/index.ts';
import type { Door, Relay } from '../relay/relay.ts';

export interface EntranceOptions {
  readonly onCaller: (socket: Socket) => void;
  /** Accepts in our place what passes through, where there is one. */
  readonly relay: Relay | undefined;
  /** The application, which everything that passes through is meant for. */
  readonly app: { readonly address: IpBytes; readonly port: number; readonly timeoutMs: number };
  readonly log: Logger;
}

const backlog = 4_096;

/**
 * A port that callers come to. Two can accept at its one listening socket: a server of ours, or the relay while
 * everything passes through. One stops before the other begins, and whoever comes in between waits in the kernel's queue.
 */
export class Entrance implements Disposable {
  readonly #options: EntranceOptions;
  #server: Server | undefined;
  #door: Door | undefined;

  constructor(options: EntranceOptions) {
    this.#options = options;
  }

  /** Resolves when the port is listened on, by ourselves at first. */
  async listen(port: number): Promise<void> {
    const { relay, app } = this.#options;
    const server = this.#createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      // Without a host both families are served, or one where the node has no IPv6.
      server.listen({ port, backlog }, () => resolve());
    });
    this.#server = server;
    this.#door = relay?.addDoor(server, app.address, app.port, app.timeoutMs);
  }

  /** Whether everything that comes from now on is meant for the application. */
  setPassing(isPassing: boolean): void {
    if (!this.#door || isPassing === !this.#server) {
      return;
    }
    if (isPassing) {
      this.#server?.close();
      this.#server = undefined;
      this.#door.open();
      return;
    }
    this.#door.shut();
    const fd = this.#door.descriptor();
    if (fd === undefined) {
      this.#giveBack('no descriptor is left');
      return;
    }
    const server = this.#createServer();
    this.#server = server;
    server.on('error', (error) => {
      this.#server = undefined;
      this.#giveBack(error.message);
    });
    server.listen({ fd, backlog });
  }

  /** Stops accepting. */
  dispose(): void {
    this.#server?.close();
    this.#server = undefined;
    void this.#door?.dispose();
    this.#door = undefined;
  }

  /** Better the application than nobody. The next change tries again. */
  #giveBack(why: string): void {
    this.#options.log.error('the port could not be taken from the relay: it passes through', { why });
    this.#door?.open();
  }

  #createServer(): Server {
    // Paused: nothing is read before it is known who reads it.
    return createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, this.#options.onCaller);
  }
}
