import { Code, ConnectError } from '@connectrpc/connect';
import { type Clock, type Logger, type Scope, sleep } from '../../base/index.ts';

const watchRetryMs = 500;
/** Somebody may give the right meanwhile. */
const forbiddenRetryMs = 20_000;

/** What a watch returns that is not to be run again. */
export const done = Symbol('done');

export interface FollowDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly scope: Scope;
}

/**
 * Runs a watch again and again for as long as its scope lives; what a peer does not have, or the watch is done with, is
 * not asked for twice, and what it does not permit not often.
 */
export function follow(
  { clock, log, scope }: FollowDeps,
  what: string,
  work: (signal: AbortSignal) => Promise<unknown>,
): void {
  const controller = new AbortController();
  const { signal } = controller;
  scope.defer(() => controller.abort());
  const run = async (): Promise<void> => {
    while (!signal.aborted) {
      let retryMs = watchRetryMs;
      try {
        if ((await work(signal)) === done) {
          return;
        }
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
