import { sleep } from '../../base/index.ts';
import type { V1Pod } from '../../kube/index.ts';
import type { SidecarConfig } from '../../protocol/index.ts';
import type { Workload } from '../cluster/cluster.ts';
import { hasConfig, type RolloutDeps, recreatePods } from './rollout.ts';
import { until } from './until.ts';

/** Pods are re-created so often again: what is amiss for longer than the start of a traffic-manager stays so. */
const moreTries = 3;
const firstPauseMs = 1_000;
/** So long the new pods may take to be there, ready or not. */
const birthMs = 15_000;

/** The pods that are there, or were, by their ids. */
export type KnownPods = ReadonlySet<string | undefined>;

const uidOf = (pod: V1Pod): string | undefined => pod.metadata?.uid;

export const knownPods = ({ view }: RolloutDeps, workload: Workload): KnownPods =>
  new Set(view.podsOf(workload, { withEnding: true }).map(uidOf));

/** One that came since without an agent: the API server could not ask the agent-injector about it. */
export const isMissed = (pod: V1Pod, before: KnownPods): boolean => !before.has(uidOf(pod)) && !hasAgent(pod);

const hasAgent = (pod: V1Pod): boolean => !hasConfig(pod, undefined);

export interface Injection {
  readonly workload: Workload;
  readonly config: SidecarConfig;
  /** False once something else is wanted of the workload. */
  readonly isWanted: () => boolean;
}

/**
 * Has the pods of a workload re-created with an agent, and once more when they come without: a Service leads to a
 * traffic-manager that has just started only a moment after it is ready, and a pod that is made in between is admitted
 * as it is. Errors: those of `recreatePods`.
 */
export async function recreateWithAgent(deps: RolloutDeps, injection: Injection, signal: AbortSignal): Promise<void> {
  const { workload, config, isWanted } = injection;
  for (let tries = 0; ; tries++) {
    const before = knownPods(deps, workload);
    await recreatePods(deps, workload, config, signal);
    const missed = await firstMissed(deps, workload, before, signal);
    if (!missed || !isWanted()) {
      return;
    }
    const isLast = tries === moreTries;
    deps.log.warn('a pod came without its agent: the API server did not ask the agent-injector about it', {
      ...{ pod: missed.metadata?.name, namespace: workload.namespace, isTriedAgain: !isLast },
    });
    if (isLast) {
      return;
    }
    await sleep(deps.clock, firstPauseMs * 2 ** tries, signal);
    if (!isWanted()) {
      return;
    }
  }
}

/** Undefined when all that came have an agent, or nothing came in time. */
async function firstMissed(
  deps: RolloutDeps,
  workload: Workload,
  before: KnownPods,
  signal: AbortSignal,
): Promise<V1Pod | undefined> {
  let missed: V1Pod | undefined;
  // At every change in the cluster, and finding a workload's pods looks at all there are: once each time.
  const isDone = (): boolean => {
    const pods = deps.view.podsOf(workload);
    missed = pods.find((pod) => isMissed(pod, before));
    return missed !== undefined || (pods.length >= replicasOf(deps, workload) && pods.every(hasAgent));
  };
  const limit = { limitMs: birthMs, what: `the new pods of ${workload.name}`, isDone };
  await until(deps, limit, signal);
  return missed;
}

const replicasOf = ({ view }: RolloutDeps, { name, namespace, kind }: Workload): number =>
  view.workload(name, namespace, kind)?.object.spec?.replicas ?? 1;
