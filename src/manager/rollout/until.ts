import { isReason, withTimeout } from '../../base/index.ts';
import type { RolloutDeps } from './rollout.ts';

export interface Wait {
  readonly limitMs: number;
  readonly what: string;
  readonly isDone: () => boolean;
}

/** Looks whenever the cluster or its agents change. False when the limit is over first. Errors: what `isDone` throws. */
export function until(
  { store, view, clock }: RolloutDeps,
  { limitMs, what, isDone }: Wait,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const wait = (limit: AbortSignal): Promise<void> =>
    new Promise<void>((resolve, reject) => {
      const end = (): void => {
        for (const subscription of subscriptions) {
          void subscription.dispose();
        }
      };
      const check = (): void => {
        try {
          if (isDone()) {
            end();
            resolve();
          }
        } catch (error) {
          end();
          reject(error);
        }
      };
      const subscriptions = [store.onChanged(check), view.onChanged(check)];
      limit.addEventListener('abort', () => {
        end();
        reject(limit.reason);
      });
      check();
    });
  return withTimeout(clock, limitMs, what, wait, signal).then(
    () => true,
    (error: unknown) => {
      if (!isReason(error, 'base.timeout')) {
        throw error;
      }
      return false;
    },
  );
}
