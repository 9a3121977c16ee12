import { cpus } from 'node:os';
import type { ManagerPod } from './manager-pod.ts';
import { type Summary, slope } from './numbers.ts';
import type { LoadOptions } from './options.ts';

export interface RestartReport {
  readonly how: 'kill' | 'rollout';
  /** From the command to the next manager being ready, and to everybody being back. */
  readonly readyMs: number;
  readonly backMs: number;
  readonly clients: number;
  readonly lostClients: number;
  readonly attachments: number;
  readonly lostAttachments: number;
  /** Attachments whose callers got no answer of the developer's program afterwards. */
  readonly unanswered: number;
}

export interface MemoryPart {
  readonly startMb: number;
  readonly endMb: number;
  readonly highestMb: number;
  readonly mbPerHour: number;
}

export interface LoadReport {
  readonly options: LoadOptions;
  readonly agents: number;
  readonly emptyMb: number;
  /** Before the first restart, and after the last. */
  readonly memory: readonly [MemoryPart, MemoryPart];
  /** With the pages of files: what the limit is held against. */
  readonly peakMb: number;
  readonly cpuShare: number;
  readonly latencies: Readonly<Record<string, Summary>>;
  readonly generatorLagMs: number;
  readonly restarts: readonly RestartReport[];
  readonly lost: { readonly clients: number; readonly attachments: number };
  /** Of the manager's container: it ran out of memory, or failed. */
  readonly unwantedRestarts: number;
}

/** The manager's memory and CPU, once a second; a new pod begins a new line. */
export class MemoryLine {
  readonly #manager: ManagerPod;
  readonly #startedMs = performance.now();
  #points: { readonly x: number; readonly y: number }[] = [];
  #pod: string | undefined;
  #cpu: { readonly atMs: number; readonly seconds: number } | undefined;
  #cpuSeconds = 0;
  #cpuMs = 0;
  peakMb = 0;

  constructor(manager: ManagerPod) {
    this.#manager = manager;
  }

  async take(): Promise<void> {
    const pod = this.#manager.running?.metadata?.uid;
    const usage = await this.#manager.usage();
    if (!usage || pod !== this.#manager.running?.metadata?.uid) {
      return;
    }
    const nowMs = performance.now();
    if (pod !== this.#pod) {
      this.#pod = pod;
      this.#points = [];
    } else if (this.#cpu) {
      this.#cpuSeconds += usage.cpuSeconds - this.#cpu.seconds;
      this.#cpuMs += nowMs - this.#cpu.atMs;
    }
    this.#cpu = { atMs: nowMs, seconds: usage.cpuSeconds };
    this.#points.push({ x: (nowMs - this.#startedMs) / 3_600_000, y: usage.memoryMb });
    this.peakMb = Math.max(this.peakMb, usage.peakMb);
  }

  /** Of one core. */
  get cpuShare(): number {
    return (this.#cpuSeconds * 1_000) / this.#cpuMs;
  }

  /** Of the pod that runs. The slope leaves out the first third, in which a heap finds its size. */
  part(): MemoryPart {
    const values = this.#points.map(({ y }) => y);
    return {
      startMb: values[0] ?? Number.NaN,
      endMb: values.at(-1) ?? Number.NaN,
      highestMb: Math.max(...values),
      mbPerHour: slope(this.#points.slice(Math.floor(this.#points.length / 3))),
    };
  }
}

const rows: Readonly<Record<string, string>> = {
  workloads: 'a workload changes → the last client sees it',
  attached: 'attach → the last client sees the workload attached to',
  attach: 'attach → active at its client, rollouts among them',
  leave: 'leave',
  names: 'a name',
  services: 'a call to a service through the manager: dial, answer, end',
  diverted: 'a caller → the developer’s program and back, through the manager',
  arrive: 'a client connects',
};
const ms = (value: number): string =>
  Number.isNaN(value)
    ? '–'
    : value >= 1_000
      ? `${(value / 1_000).toFixed(1)} s`
      : `${value.toFixed(value < 10 ? 1 : 0)} ms`;
const mb = (value: number): string => `${value.toFixed(0)} MB`;

export function printReport(report: LoadReport): string {
  const { options, memory, latencies, restarts, lost } = report;
  const { clients, workloads, attachments, namespaces, minutes } = options;
  const [before, after] = memory;
  return `# The traffic-manager under load

Written by \`npm run load -- --minutes ${minutes} --clients ${clients} --workloads ${workloads} --attachments ${attachments}\`, on ${cpus().length} cores that the whole
cluster, everything simulated, and the manager share; how long things take is therefore an upper bound.

The manager is the real pod of the real image, with a limit of ${options.memory}. ${workloads} Deployments in ${namespaces} namespaces have their
pods on a node without a machine; ${report.agents} of these pods have an agent: the real one's link, from the pod's own address. ${clients}
clients, each the connector's own session, watch everything in all ${namespaces} namespaces. All the time workloads are scaled, made and deleted,
clients come and go, attachments are left and made, names are asked for, and services and developers' programs are called.

| Memory | at first | at the end | highest | slope |
|---|---|---|---|---|
| until the manager is killed | ${mb(before.startMb)} | ${mb(before.endMb)} | ${mb(before.highestMb)} | ${before.mbPerHour.toFixed(1)} MB/h |
| after its rollout | ${mb(after.startMb)} | ${mb(after.endMb)} | ${mb(after.highestMb)} | ${after.mbPerHour.toFixed(1)} MB/h |

Before the first client it was ${mb(report.emptyMb)}; the highest that the limit is held against, pages of files among it, ${mb(report.peakMb)}. Container
restarts: ${report.unwantedRestarts}. CPU: ${(report.cpuShare * 100).toFixed(0)} % of one core.

| What | times | failed | p50 | p99 | longest |
|---|---|---|---|---|---|
${Object.entries(rows)
  .map(([name, what]) => {
    const { count, failed, p50, p99, max } = latencies[name] ?? {
      count: 0,
      failed: 0,
      p50: Number.NaN,
      p99: Number.NaN,
      max: Number.NaN,
    };
    return `| ${what} | ${count} | ${failed} | ${ms(p50)} | ${ms(p99)} | ${ms(max)} |`;
  })
  .join('\n')}

The event loop that all of the simulated shares was late by ${ms(report.generatorLagMs)} (p99), which is in these figures.

| The manager is | the next one is ready | everybody is back | sessions lost | attachments lost | without an answer |
|---|---|---|---|---|---|
${restarts
  .map(
    (each) =>
      `| ${each.how === 'kill' ? 'killed' : 'rolled out anew'} | ${ms(each.readyMs)} | ${ms(each.backMs)} | ${each.lostClients} of ${each.clients} | ${each.lostAttachments} of ${each.attachments} | ${each.unanswered} |`,
  )
  .join('\n')}

At the end ${lost.clients} clients and ${lost.attachments} attachments were not as they should be.
`;
}
