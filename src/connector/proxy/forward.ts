import { createServer, type Socket } from 'node:net';
import type { Clock, Disposable, Logger } from '../../base/index.ts';
import { resetSocket } from '../../protocol/transport/index.ts';
import { badForward } from '../errors.ts';
import { Listener } from './listener.ts';
import type { Target, TargetConnection, TargetFailure } from './target.ts';
import { formatTarget, parseTarget } from './words.ts';

export interface ForwardRule {
  /** 0: any free port. */
  readonly localPort: number;
  readonly target: Target;
}

export interface ForwardDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly targets: { dialTcp(target: Target, signal: AbortSignal): Promise<ForwardOutcome> };
}

export type ForwardOutcome =
  | { readonly result: 'ok'; readonly connection: Pick<TargetConnection, 'join' | 'reset'> }
  | { readonly result: TargetFailure };

/** Reads `8081:service-a.service-a-ns:8080`. Errors: `connector.bad-forward`. */
export function parseForward(text: string): ForwardRule {
  const match = /^(\d{1,5}):(.+)$/.exec(text);
  const target = parseTarget(match?.[2] ?? '');
  const localPort = Number(match?.[1]);
  if (!match || !target || localPort > 65_535) {
    throw badForward(text);
  }
  return { localPort, target };
}

/** A port of this machine that leads to one target, for programs that know no proxy. */
export class Forward implements Disposable {
  readonly #deps: ForwardDeps;
  readonly #target: Target;
  readonly #listener: Listener;

  constructor(deps: ForwardDeps, target: Target) {
    this.#deps = deps;
    this.#target = target;
    const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
      void this.#connect(socket);
    });
    this.#listener = new Listener(server);
  }

  /** Errors: `connector.port-taken`. */
  listen(port: number): Promise<number> {
    return this.#listener.listen(port);
  }

  dispose(): void {
    this.#listener.dispose();
  }

  async #connect(socket: Socket): Promise<void> {
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    socket.once('close', abort);
    const outcome = await this.#deps.targets.dialTcp(this.#target, controller.signal);
    socket.off('close', abort);
    if (outcome.result !== 'ok') {
      // The kernel has said yes already: a reset is the nearest thing to a refusal.
      this.#deps.log.debug('a forwarded connection failed', {
        target: formatTarget(this.#target),
        result: outcome.result,
      });
      resetSocket(socket);
    } else if (socket.destroyed) {
      outcome.connection.reset();
    } else {
      outcome.connection.join(socket);
      socket.resume();
    }
  }
}
