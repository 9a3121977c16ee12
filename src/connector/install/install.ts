import { type Clock, type Logger, sleep } from '../../base/index.ts';
import { type Kube, kindOf, kinds, type V1Deployment, type V1Pod } from '../../kube/index.ts';
import { installFailed } from '../errors.ts';
import type { InstallOptions } from './options.ts';
import { applied, type Change, type PlanOptions, planInstall } from './plan.ts';

export const readyTimeoutMs = 120_000;
export const pollMs = 500;

export interface InstallDeps {
  readonly kube: Kube;
  readonly clock: Clock;
  readonly log: Logger;
  /** What is being done, for a person who waits: one of few sentences, and with what. */
  readonly onStep?: ((step: string, detail?: string) => void) | undefined;
}

/**
 * Applies what differs and waits until the manager is ready. What is cancelled or fails half way is completed by the
 * next one. Errors: those of `planInstall`, `connector.install-failed`.
 */
export async function installManager(
  deps: InstallDeps,
  options: InstallOptions,
  plan: PlanOptions = {},
): Promise<readonly Change[]> {
  const { kube, clock, log, onStep } = deps;
  const { signal, takeOver = false } = plan;
  onStep?.('comparing with the cluster');
  const changes = await planInstall(kube, options, plan);
  for (const { action, object } of changes) {
    signal?.throwIfAborted();
    const kind = kindOf(object);
    if (action === 'remove' && kind && object.metadata?.name) {
      await kube.remove(kind, object.metadata.name, object.metadata.namespace);
    } else if (action === 'create' || action === 'change') {
      onStep?.('applying what differs', `${object.kind} ${object.metadata?.name ?? ''}`);
      await applied(kube, object, { force: takeOver, signal });
    }
  }
  log.info('traffic-manager applied', { namespace: options.namespace, image: options.imageReference });
  onStep?.('waiting for the traffic-manager to be ready');
  const end = clock.nowMs() + readyTimeoutMs;
  while (!(await isReady(kube, options.namespace))) {
    if (clock.nowMs() > end) {
      throw installFailed(await trouble(kube, options.namespace));
    }
    await sleep(clock, pollMs, signal);
  }
  return changes;
}

async function isReady(kube: Kube, namespace: string): Promise<boolean> {
  const deployment = await kube.get<V1Deployment>(kinds.deployment, 'traffic-manager', namespace);
  const { status, metadata, spec } = deployment ?? {};
  return (
    status?.observedGeneration === metadata?.generation &&
    (status?.updatedReplicas ?? 0) === spec?.replicas &&
    (status?.readyReplicas ?? 0) === spec?.replicas
  );
}

async function trouble(kube: Kube, namespace: string): Promise<string> {
  const pods = await kube.list<V1Pod>(kinds.pod, { namespace, labelSelector: 'app=traffic-manager' }).catch(() => []);
  const waiting = pods.flatMap(
    (pod) => pod.status?.containerStatuses?.map(({ state }) => state?.waiting?.message ?? state?.waiting?.reason) ?? [],
  );
  return waiting.find(Boolean) ?? 'its pod does not start';
}
