import type { V1Pod } from '../../kube/index.ts';
import type { SidecarConfig } from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import { agentDidNotArrive, redirectFailed } from '../errors.ts';
import { initContainerName, redirectedKeys } from '../injector/redirect.ts';
import { isMissed, knownPods } from './missed.ts';
import { hasConfig, type RolloutDeps } from './rollout.ts';
import { until } from './until.ts';

export const agentArrivalMs = 30_000;
/** Together with the arrival below what clients wait for an intercept. */
const recreationLimitMs = 8_000;
const notAsked =
  'its new pods were made without one, so the API server does not reach the agent-injector: look for a firewall or a network policy between them';

/**
 * Resolves when an agent is here with the configuration that is wanted at that time; without one, any. Errors:
 * `manager.agent-did-not-arrive`, with what the pods say; `manager.redirect-failed`.
 */
export async function waitForAgent(
  deps: RolloutDeps,
  workload: Workload,
  wanted: (() => SidecarConfig) | undefined,
  signal?: AbortSignal,
): Promise<void> {
  const { store, view } = deps;
  const wasRefused = refusalOf(view, workload);
  const before = knownPods(deps, workload);
  const isDone = (): boolean => {
    const refused = refusalOf(view, workload);
    if (refused && refused !== wasRefused) {
      throw agentDidNotArrive(workload.name, refused);
    }
    const config = wanted?.();
    return store.agentsOf(workload.name, workload.namespace).some(({ info }) => {
      const pod = view.pods.items.get(`${info.namespace}/${info.podName}`);
      return !config || !pod || pod.metadata?.uid !== info.podUid || isCurrent(pod, workload.name, config);
    });
  };
  const limit = { limitMs: agentArrivalMs, what: `the arrival of an agent of ${workload.name}`, isDone };
  if (!(await until(deps, limit, signal))) {
    const pods = view.podsOf(workload);
    const areMissed = wanted !== undefined && pods.some((pod) => isMissed(pod, before));
    const why = [refusalOf(view, workload), areMissed ? notAsked : '', podTroubles(pods)];
    throw agentDidNotArrive(workload.name, why.filter(Boolean).join('; '));
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
  if (!(await until(deps, limit, signal))) {
    deps.log.info('attached while other pods are still there', { workload: workload.name });
  }
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
