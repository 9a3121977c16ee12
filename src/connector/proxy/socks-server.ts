import { createServer, type Socket } from 'node:net';
import { type Clock, type Disposable, type Logger, needMore, parseIp, type Read } from '../../base/index.ts';
import { Association } from './associate.ts';
import { type Credentials, isAccepted } from './credentials.ts';
import { Listener, proxyHost } from './listener.ts';
import {
  parseGreeting,
  parsePassword,
  parseRequest,
  type SocksReply,
  type SocksRequest,
  serializeMethod,
  serializePasswordAnswer,
  serializeReply,
  socksMethod,
  socksReply,
} from './socks.ts';
import type { Target, TargetDialer, TargetFailure } from './target.ts';
import { formatTarget } from './words.ts';

export interface ProxyServerDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly targets: Pick<TargetDialer, 'dialTcp' | 'openUdp'>;
  /** Undefined: everybody on this machine may come. */
  readonly credentials: Credentials | undefined;
}

const handshakeTimeoutMs = 10_000;
const lingerMs = 2_000;
/** The longest message of the handshake, the password, has 513 bytes. */
const maxHandshakeBytes = 1_024;

const replies: Record<TargetFailure, SocksReply> = {
  refused: socksReply.refused,
  unreachable: socksReply.hostUnreachable,
  timeout: socksReply.timedOut,
  prohibited: socksReply.notAllowed,
  unknown: socksReply.hostUnreachable,
  failed: socksReply.failed,
};

/** SOCKS version 5 on loopback: CONNECT and UDP ASSOCIATE. */
export class SocksServer implements Disposable {
  readonly #deps: ProxyServerDeps;
  readonly #listener: Listener;

  constructor(deps: ProxyServerDeps) {
    this.#deps = deps;
    this.#listener = new Listener(
      createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket)),
    );
  }

  listen(port = 0): Promise<number> {
    return this.#listener.listen(port);
  }

  dispose(): void {
    this.#listener.dispose();
  }

  #accept(socket: Socket): void {
    let state: 'greeting' | 'password' | 'request' | 'over' = 'greeting';
    let received: Uint8Array = new Uint8Array(0);
    const limit = this.#deps.clock.after(handshakeTimeoutMs, () => socket.destroy());
    const hangUp = (): void => void socket.destroy();
    const stop = (): void => {
      state = 'over';
      void limit.dispose();
      socket.off('data', receive);
      socket.off('end', hangUp);
    };
    const refuse = (last: Uint8Array): void => {
      stop();
      socket.write(last);
      this.#end(socket);
    };
    /** The next whole message, as what to do with it once its bytes are taken off. */
    const read = (): Read<() => void> => {
      switch (state) {
        case 'greeting':
          return follow(parseGreeting(received), (methods) => {
            const method = this.#choose(methods);
            if (method === socksMethod.unacceptable) {
              refuse(serializeMethod(method));
            } else {
              socket.write(serializeMethod(method));
              state = method === socksMethod.password ? 'password' : 'request';
            }
          });
        case 'password':
          return follow(parsePassword(received), (shown) => {
            const { credentials } = this.#deps;
            if (credentials && isAccepted(credentials, shown)) {
              socket.write(serializePasswordAnswer(true));
              state = 'request';
            } else {
              refuse(serializePasswordAnswer(false));
            }
          });
        case 'request':
          return follow(parseRequest(received), (request) => {
            stop();
            socket.pause();
            if (received.length > 0) {
              // What the client sent ahead belongs to the far end.
              socket.unshift(received);
            }
            void this.#serve(socket, request);
          });
        case 'over':
          return needMore;
      }
    };
    const receive = (chunk: Buffer): void => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
      for (let message = read(); message.kind !== 'need-more'; message = read()) {
        if (message.kind === 'malformed') {
          this.#deps.log.debug('a connection that does not speak SOCKS 5 was ended', { why: message.why });
          stop();
          socket.destroy();
          return;
        }
        received = received.subarray(message.bytesRead);
        message.value();
      }
      if (state !== 'over' && received.length > maxHandshakeBytes) {
        socket.destroy();
      }
    };
    socket.once('close', () => void limit.dispose());
    socket.on('data', receive);
    socket.on('end', hangUp);
  }

  #choose(methods: readonly number[]): number {
    const wanted = this.#deps.credentials ? socksMethod.password : socksMethod.none;
    return methods.includes(wanted) ? wanted : socksMethod.unacceptable;
  }

  async #serve(socket: Socket, request: SocksRequest): Promise<void> {
    switch (request.command) {
      case 'connect':
        return this.#connect(socket, request.target);
      case 'associate':
        return this.#associate(socket, request.target);
      case 'bind':
        return this.#refuse(socket, socksReply.commandNotSupported);
      case 'unsupported':
        return this.#refuse(socket, request.reply);
    }
  }

  async #connect(socket: Socket, target: Target): Promise<void> {
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    socket.once('close', abort);
    const outcome = await this.#deps.targets.dialTcp(target, controller.signal);
    socket.off('close', abort);
    if (outcome.result !== 'ok') {
      this.#deps.log.debug('a connection through the proxy failed', {
        target: formatTarget(target),
        result: outcome.result,
      });
      this.#refuse(socket, replies[outcome.result]);
    } else if (socket.destroyed) {
      outcome.connection.reset();
    } else {
      socket.write(serializeReply(socksReply.succeeded, undefined));
      outcome.connection.join(socket);
      socket.resume();
    }
  }

  async #associate(socket: Socket, { host, port }: Target): Promise<void> {
    const ip = parseIp(host);
    // The client says where it will send from, or zeros; only this machine can reach us.
    if (!ip || !(ip.every((byte) => byte === 0) || host === proxyHost)) {
      this.#refuse(socket, socksReply.notAllowed);
      return;
    }
    const association = new Association(this.#deps, port);
    const bound = await association.listen().catch(() => undefined);
    if (bound === undefined || socket.destroyed) {
      association.dispose();
      this.#refuse(socket, socksReply.failed);
      return;
    }
    const end = (): void => {
      association.dispose();
      socket.destroy();
    };
    socket.once('end', end);
    socket.once('close', end);
    socket.write(serializeReply(socksReply.succeeded, { address: parseIp(proxyHost) ?? ip, port: bound }));
    socket.resume();
  }

  #refuse(socket: Socket, reply: SocksReply): void {
    if (!socket.destroyed) {
      socket.write(serializeReply(reply, undefined));
      this.#end(socket);
    }
  }

  /** Ends so that the last words arrive: a socket with unread bytes would send a reset right behind them. */
  #end(socket: Socket): void {
    const limit = this.#deps.clock.after(lingerMs, () => socket.destroy());
    socket.once('end', () => socket.destroySoon());
    socket.once('close', () => void limit.dispose());
    socket.end();
    socket.resume();
  }
}

/** What to do with a message that is whole. */
function follow<T>(read: Read<T>, run: (value: T) => void): Read<() => void> {
  return read.kind === 'value' ? { ...read, value: () => run(read.value) } : read;
}
