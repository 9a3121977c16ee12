import { type Clock, sleep } from '../base/index.ts';

/** New connections may still come for a moment after SIGTERM, until every node knows that the pod is ending. */
const lateConnectionsMs = 2_000;
const pollMs = 100;
/** The kubelet ends the pod's grace period long before; this is only a guard. */
const maxDrainMs = 3_600_000;

/** Resolves when the callers that are still connected have gone: a request in flight must not be cut. */
export async function drain(clock: Clock, openConnections: () => number): Promise<void> {
  const startedMs = clock.nowMs();
  await sleep(clock, lateConnectionsMs);
  while (openConnections() > 0 && clock.nowMs() - startedMs < maxDrainMs) {
    await sleep(clock, pollMs);
  }
}
