import type { Cluster } from '../../cluster/cluster.ts';
import { type ProbeReport, probeFromPod } from '../../support/probe.ts';

/** What was answered to a constant rate of requests, and when the change began, in milliseconds since the epoch. */
export interface Seen {
  readonly since: number;
  readonly report: ProbeReport;
}

interface Probing {
  readonly address: string;
  readonly periodMs: number;
  readonly seconds: number;
}

export const port = 8080;
/** Before the change, so that it is seen. */
const leadMs = 500;

export async function during(
  cluster: Pick<Cluster, 'kubectl'>,
  probing: Probing,
  change: () => Promise<unknown>,
): Promise<Seen> {
  const probed = probeFromPod(cluster, { namespace: 'bench', port, ...probing });
  await new Promise((resolve) => setTimeout(resolve, leadMs));
  const since = Date.now();
  await change();
  return { since, report: await probed };
}
