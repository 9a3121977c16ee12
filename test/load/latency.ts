import type { wire } from '../../src/protocol/index.ts';
import { waitFor } from '../cluster/shell.ts';
import type { SimulatedClient } from './clients.ts';
import type { Samples } from './numbers.ts';
import type { WorkloadName } from './workloads.ts';

const limitMs = 30_000;

/**
 * Makes a change and waits until every client that is connected has seen it. What counts is the last one; one that never
 * sees it is a failure.
 */
export async function untilAllSee(
  samples: Samples,
  clients: readonly SimulatedClient[],
  { name }: WorkloadName,
  isSeen: (workload: wire.WorkloadInfo) => boolean,
  change: () => Promise<unknown>,
): Promise<void> {
  const waiting = new Set(clients.filter(({ isConnected }) => isConnected));
  let changedMs = Number.POSITIVE_INFINITY;
  let lastMs = 0;
  const subscriptions = [...waiting].map((client) =>
    client.onWorkloadsChanged(({ events }) => {
      if (events.some(({ workload }) => workload?.name === name && isSeen(workload))) {
        waiting.delete(client);
        lastMs = performance.now();
      }
    }),
  );
  try {
    await change();
    changedMs = performance.now();
    await waitFor('all clients seeing a change', limitMs, async () => (waiting.size === 0 ? true : undefined));
    // A watch may be quicker than the answer to the call that made the change.
    samples.add(Math.max(0, lastMs - changedMs));
  } catch {
    // Who has left meanwhile needs to see nothing.
    samples.failed += [...waiting].filter(({ isConnected }) => isConnected).length > 0 ? 1 : 0;
  } finally {
    for (const subscription of subscriptions) {
      void subscription.dispose();
    }
  }
}
