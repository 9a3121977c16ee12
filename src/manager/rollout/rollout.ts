import { type Clock, type Logger, sleep, toError, withTimeout } from '../../base/index.ts';
import { type Kube, kinds, type V1Pod } from '../../kube/index.ts';
import type { SidecarConfig } from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import { agentDidNotArrive, evictionRefused, redirectFailed } from '../errors.ts';
import { annotation } from '../injector/annotations.ts';
import { saysTheSame } from '../injector/config.ts';
import { initContainerName, redirectedKeys } from '../injector/redirect.ts';
import type { Store } from '../state/store.ts';

export const agentArrivalMs = 30_000;
/** Together with the arrival below what clients wait for an intercept. */
const recreationLimitMs = 8_000;
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
function hasConfig(pod: V1Pod, config: SidecarConfig | undefined): boolean {
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

/**
 * Resolves when an agent with this configuration is here; without one, any. Errors: `manager.agent-did-not-arrive`, with
 * what the pods say; `manager.redirect-failed`.
 */
export async function waitForAgent(
  deps: RolloutDeps,
  workload: Workload,
  config: SidecarConfig | undefined,
  signal?: AbortSignal,
): Promise<void> {
  const { store, view } = deps;
  const wasRefused = refusalOf(view, workload);
  const isDone = (): boolean => {
    const refused = refusalOf(view, workload);
    if (refused && refused !== wasRefused) {
      throw agentDidNotArrive(workload.name, refused);
    }
    return store.agentsOf(workload.name, workload.namespace).some(({ info }) => {
      const pod = view.pods.items.get(`${info.namespace}/${info.podName}`);
      return !config || !pod || pod.metadata?.uid !== info.podUid || isCurrent(pod, workload.name, config);
    });
  };
  try {
    await until(deps, { limitMs: agentArrivalMs, what: `the arrival of an agent of ${workload.name}`, isDone }, signal);
  } catch (error) {
    if (toError(error).code !== 'deadline_exceeded' || toError(error).reason === 'manager.agent-did-not-arrive') {
      throw error;
    }
    const troubles = podTroubles(view.podsOf(workload));
    throw agentDidNotArrive(workload.name, [refusalOf(view, workload), troubles].filter(Boolean).join('; '));
  }
}

/** Whether a pod is what the configuration makes of it. One that is ending may still have an agent; nothing counts on it. */
function isCurrent(pod: V1Pod, workload: string, config: SidecarConfig): boolean {
  if (pod.metadata?.deletionTimestamp || !hasConfig(pod, config)) {
    return false;
  }
  if (redirectedKeys(config).length === 0) {
    return true;
  }
  const status = pod.status?.initContainerStatuses?.find(({ name }) => name === initContainerName);
  const ended = status?.state?.terminated;
  if (ended?.message) {
    throw redirectFailed(workload, ended.message);
  }
  return ended !== undefined;
}

/** Resolves when no pod of another configuration is left; after a while in any case, since there may be many. */
export async function untilRecreated(
  deps: RolloutDeps,
  workload: Workload,
  config: SidecarConfig,
  signal?: AbortSignal,
): Promise<void> {
  const isDone = (): boolean => deps.view.podsOf(workload, { withEnding: true }).every((pod) => hasConfig(pod, config));
  const limit = { limitMs: recreationLimitMs, what: `the end of the other pods of ${workload.name}`, isDone };
  await until(deps, limit, signal).catch((error: unknown) => {
    if (toError(error).code !== 'deadline_exceeded') {
      throw error;
    }
    deps.log.info('attached while other pods are still there', { workload: workload.name });
  });
}

interface Wait {
  readonly limitMs: number;
  readonly what: string;
  readonly isDone: () => boolean;
}

/** Looks whenever the cluster or its agents change. */
function until(
  { store, view, clock }: RolloutDeps,
  { limitMs, what, isDone }: Wait,
  signal: AbortSignal | undefined,
): Promise<void> {
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
  return withTimeout(clock, limitMs, what, wait, signal);
}

/** Why the cluster makes no pod at all for a workload: a quota, a policy. */
function refusalOf(view: ClusterView, { name, namespace, kind }: Workload): string {
  const conditions = view.workload(name, namespace, kind)?.object.status?.conditions ?? [];
  return conditions.find(({ type, status }) => type === 'ReplicaFailure' && status === 'True')?.message ?? '';
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
