import { Code, ConnectError } from '@connectrpc/connect';
import { type Clock, type Logger, type Scope, sleep } from '../../base/index.ts';

const watchRetryMs = 500;
/** Somebody may give the right meanwhile. */
const forbiddenRetryMs = 20_000;

export interface FollowDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly scope: Scope;
}

/**
 * Runs a watch again and again for as long as its scope lives; what a peer does not have is not asked for twice, and what it
 * does not permit not often.
 */
export function follow(
  { clock, log, scope }: FollowDeps,
  what: string,
  work: (signal: AbortSignal) => Promise<void>,
): void {
  const controller = new AbortController();
  const { signal } = controller;
  scope.defer(() => controller.abort());
  const run = async (): Promise<void> => {
    while (!signal.aborted) {
      let retryMs = watchRetryMs;
      try {
        await work(signal);
      } catch (error) {
        if (error instanceof ConnectError && error.code === Code.PermissionDenied) {
          retryMs = forbiddenRetryMs;
        }
        if (error instanceof ConnectError && error.code === Code.Unimplemented) {
          return;
        }
        if (!signal.aborted) {
          log.debug('a watch ended', { what, error });
        }
      }
      await sleep(clock, retryMs, signal).catch(() => undefined);
    }
  };
  void run();
}
