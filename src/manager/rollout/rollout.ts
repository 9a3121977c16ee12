import { type Clock, type Logger, sleep, toError, withTimeout } from '../../base/index.ts';
import { type Kube, kinds, type V1Pod } from '../../kube/index.ts';
import type { SidecarConfig } from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import { agentDidNotArrive } from '../errors.ts';
import { saysTheSame } from '../injector/config.ts';
import { annotation } from '../injector/plan.ts';
import type { Store } from '../state/store.ts';

export const agentArrivalMs = 30_000;
const evictionPeriodMs = 500;

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
function hasConfig(pod: V1Pod, config: SidecarConfig | undefined): boolean {
  const present = pod.metadata?.annotations?.[annotation.config];
  return config && present !== undefined ? saysTheSame(present, config) : present === undefined && !config;
}

/**
 * Has the pods of a workload re-created where they do not match. Another ready replica takes over while one is
 * evicted (budgets are honoured); a Deployment's only replica is replaced by a rolling update, whose successor is
 * ready first, so that no request is lost.
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
  for (const pod of stale) {
    await evictOne(deps, { workload, pod, strength }, signal);
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
}

/** Evicts one pod once as many serve as before the first went: whoever calls finds one less at a time, never more. */
async function evictOne(
  { kube, view, clock, log }: RolloutDeps,
  { workload, pod, strength }: Eviction,
  signal: AbortSignal,
): Promise<void> {
  const name = pod.metadata?.name ?? '';
  for (;;) {
    const pods = view.podsOf(workload);
    const present = pods.find((each) => each.metadata?.name === name);
    if (!present) {
      return;
    }
    if (!isReady(present) || pods.filter(isReady).length >= strength) {
      const result = await kube.evict(name, workload.namespace);
      log.info('evicted for its agent', { pod: name, result });
      if (result !== 'blocked') {
        await waitGone(view, clock, workload, name, signal);
        return;
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

/** Resolves when an agent of the workload is here. Errors: `manager.agent-did-not-arrive`, with what the pods say. */
export async function waitForAgent(deps: RolloutDeps, workload: Workload, signal?: AbortSignal): Promise<void> {
  const { store, clock, view } = deps;
  try {
    await withTimeout(
      clock,
      agentArrivalMs,
      `the arrival of an agent of ${workload.name}`,
      (limit) =>
        new Promise<void>((resolve, reject) => {
          const check = (): void => {
            if (store.agentsOf(workload.name, workload.namespace).length > 0) {
              void subscription.dispose();
              resolve();
            }
          };
          const subscription = store.onChanged(check);
          limit.addEventListener('abort', () => {
            void subscription.dispose();
            reject(limit.reason);
          });
          check();
        }),
      signal,
    );
  } catch (error) {
    if (toError(error).code === 'cancelled') {
      throw error;
    }
    throw agentDidNotArrive(workload.name, podTroubles(view.podsOf(workload)));
  }
}

/** What keeps pods from starting, in the cluster's own words. */
function podTroubles(pods: readonly V1Pod[]): string {
  const texts = pods.flatMap((pod) => [
    ...(pod.status?.conditions ?? [])
      .filter(({ status, message }) => status === 'False' && message)
      .map(({ message }) => message ?? ''),
    ...(pod.status?.containerStatuses ?? []).map(
      ({ state }) => state?.waiting?.message ?? state?.waiting?.reason ?? '',
    ),
  ]);
  return [...new Set(texts.filter(Boolean))].slice(0, 3).join('; ');
}
