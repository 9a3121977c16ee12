import type { Server, Socket } from 'node:net';
import type { Disposable } from '../../base/index.ts';
import { portTaken } from '../errors.ts';

/** Never another address: what listens here speaks for the user. */
export const proxyHost = '127.0.0.1';
const maxConnections = 2_000;

/** A server on loopback with its connections: ended together. */
export class Listener implements Disposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** The server's `connection` events must be handled by the caller. */
  constructor(server: Server) {
    this.#server = server;
    // Beyond, the kernel's connection is closed at once.
    server.maxConnections = maxConnections;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  /** Resolves with the port; 0 asks for any. Errors: `connector.port-taken`. */
  listen(port: number): Promise<number> {
    const server = this.#server;
    return new Promise((resolve, reject) => {
      server.once('error', (error) => reject(portTaken(`${proxyHost}:${port}`, error)));
      server.listen({ host: proxyHost, port }, () => {
        const bound = server.address();
        server.on('error', () => undefined);
        resolve(typeof bound === 'object' && bound ? bound.port : 0);
      });
    });
  }

  get connections(): number {
    return this.#sockets.size;
  }

  dispose(): void {
    this.#server.close();
    for (const socket of this.#sockets) {
      socket.destroy();
    }
  }
}
