import { type Clock, type Logger, sleep } from '../../base/index.ts';
import { type Kube, kinds, type V1Pod } from '../../kube/index.ts';
import type { SidecarConfig } from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import { evictionRefused } from '../errors.ts';
import { annotation } from '../injector/annotations.ts';
import { saysTheSame } from '../injector/config.ts';
import type { Store } from '../state/store.ts';

const evictionPeriodMs = 500;
/** A budget is counted anew some time after a pod became ready. What says no for longer, says no for good. */
const deploymentBlockedMs = 2_000;
const blockedMs = 8_000;

export interface RolloutDeps {
  readonly kube: Kube;
  readonly view: ClusterView;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

const kindOfWorkload = {
  Deployment: kinds.deployment,
  ReplicaSet: kinds.replicaSet,
  StatefulSet: kinds.statefulSet,
} as const;

/** True when a pod runs with exactly this configuration (undefined: with no agent at all). */
export function hasConfig(pod: V1Pod, config: SidecarConfig | undefined): boolean {
  const present = pod.metadata?.annotations?.[annotation.config];
  return config && present !== undefined ? saysTheSame(present, config) : present === undefined && !config;
}

/**
 * Has the pods of a workload re-created where they do not match. Another ready replica takes over while one is
 * evicted (budgets are honoured); a Deployment's only replica is replaced by a rolling update, whose successor is
 * ready first, so that no request is lost, and so are all of one whose budget lets none go. Errors:
 * `manager.eviction-refused`, before anything has changed.
 */
export async function recreatePods(
  deps: RolloutDeps,
  workload: Workload,
  config: SidecarConfig | undefined,
  signal: AbortSignal,
): Promise<void> {
  const stale = deps.view.podsOf(workload).filter((pod) => !hasConfig(pod, config));
  if (stale.length === 0) {
    return;
  }
  const replicas = workload.object.spec?.replicas ?? 1;
  if (workload.kind === 'Deployment' && replicas <= 1) {
    await restart(deps, workload);
    return;
  }
  // No more than serve now: one that fails for reasons of its own must not stop the rest.
  const strength = Math.min(replicas, deps.view.podsOf(workload).filter(isReady).length);
  for (const [index, pod] of stale.entries()) {
    const patienceMs = workload.kind === 'Deployment' ? deploymentBlockedMs : index === 0 ? blockedMs : Infinity;
    if (!(await evictOne(deps, { workload, pod, strength, patienceMs }, signal))) {
      if (workload.kind !== 'Deployment') {
        throw evictionRefused(workload.name, pod.metadata?.name ?? '');
      }
      await restart(deps, workload);
      return;
    }
  }
}

async function restart({ kube, clock, log }: RolloutDeps, workload: Workload): Promise<void> {
  const body = {
    spec: {
      template: { metadata: { annotations: { [annotation.restartedAt]: new Date(clock.wallMs()).toISOString() } } },
    },
  };
  log.info('rolling update', { workload: workload.name, namespace: workload.namespace });
  await kube.patch(kindOfWorkload[workload.kind], workload.name, workload.namespace, body, 'strategic');
}

interface Eviction {
  readonly workload: Workload;
  readonly pod: V1Pod;
  /** So many pods are to be ready before one goes. */
  readonly strength: number;
  /** How long a budget may say no. */
  readonly patienceMs: number;
}

/**
 * Evicts one pod once as many serve as before the first went: whoever calls finds one less at a time, never more. False
 * when a budget does not let it go.
 */
async function evictOne(
  { kube, view, clock, log }: RolloutDeps,
  { workload, pod, strength, patienceMs }: Eviction,
  signal: AbortSignal,
): Promise<boolean> {
  const name = pod.metadata?.name ?? '';
  let blockedSinceMs: number | undefined;
  for (;;) {
    const pods = view.podsOf(workload);
    const present = pods.find((each) => each.metadata?.name === name);
    if (!present) {
      return true;
    }
    if (!isReady(present) || pods.filter(isReady).length >= strength) {
      const result = await kube.evict(name, workload.namespace);
      log.info('evicted for its agent', { pod: name, result });
      if (result !== 'blocked') {
        await waitGone(view, clock, workload, name, signal);
        return true;
      }
      blockedSinceMs ??= clock.nowMs();
      if (clock.nowMs() - blockedSinceMs >= patienceMs) {
        return false;
      }
    }
    await sleep(clock, evictionPeriodMs, signal);
  }
}

async function waitGone(
  view: ClusterView,
  clock: Clock,
  workload: Workload,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  while (view.podsOf(workload).some((pod) => pod.metadata?.name === name)) {
    await sleep(clock, evictionPeriodMs / 5, signal);
  }
}

function isReady(pod: V1Pod): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
}
