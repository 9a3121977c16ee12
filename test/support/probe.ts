import type { Cluster } from '../cluster/cluster.ts';

export interface ProbeEvent {
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Somebody else answers from now on, or one request failed. */
  readonly kind: 'answer' | 'failure';
  /** Who answers, or why it failed. */
  readonly what: string;
}

export interface ProbeReport {
  readonly events: readonly ProbeEvent[];
  readonly sent: number;
  readonly failed: number;
  readonly p50us: number;
  readonly p99us: number;
}

export interface ProbeOptions {
  /** The namespace of the deployment `client`, which calls. */
  readonly namespace: string;
  readonly address: string;
  readonly port: number;
  readonly periodMs: number;
  readonly seconds: number;
  /** One header line of each request. */
  readonly header?: string;
}

/**
 * Calls from a pod at a constant rate, each time by a new connection, whatever became of the calls before. Resolves when
 * the time is over and each call was answered or has failed.
 */
export async function probeFromPod(
  cluster: Pick<Cluster, 'kubectl'>,
  { namespace, address, port, periodMs, seconds, header }: ProbeOptions,
): Promise<ProbeReport> {
  const command = ['http', 'probe', address, String(port), String(periodMs), String(seconds)];
  const output = await cluster.kubectl(
    ...['-n', namespace, 'exec', 'deploy/client', '--', ...command],
    ...(header ? [header] : []),
  );
  return JSON.parse(output) as ProbeReport;
}

/** When this one answered first, in milliseconds after `since`; undefined when never. */
export function firstAnswer({ events }: ProbeReport, who: string, since: number): number | undefined {
  const found = events.find(({ at, kind, what }) => kind === 'answer' && what === who && at >= since);
  return found && found.at - since;
}
