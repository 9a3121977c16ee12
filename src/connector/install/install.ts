import { type Clock, type Logger, sleep, toError } from '../../base/index.ts';
import { type Kube, kindOf, kinds, type V1Deployment, type V1Pod } from '../../kube/index.ts';
import { agentsLeft, installFailed } from '../errors.ts';
import { type InstallOptions, managerObjects } from './objects.ts';
import { podsWithAgent, takeAgentsOut } from './take-out.ts';

const readyTimeoutMs = 120_000;
const pollMs = 500;

/** Applies everything and waits until the manager is ready. Errors: `connector.install-failed`, those of kube. */
export async function installManager(kube: Kube, options: InstallOptions, clock: Clock, log: Logger): Promise<void> {
  for (const each of managerObjects(options)) {
    await kube.apply(each);
  }
  log.info('traffic-manager applied', { namespace: options.namespace, image: options.image });
  const end = clock.nowMs() + readyTimeoutMs;
  while (!(await isReady(kube, options.namespace))) {
    if (clock.nowMs() > end) {
      throw installFailed(await trouble(kube, options.namespace));
    }
    await sleep(clock, pollMs);
  }
}

async function isReady(kube: Kube, namespace: string): Promise<boolean> {
  const deployment = await kube.get<V1Deployment>(kinds.deployment, 'traffic-manager', namespace);
  const { status, metadata, spec } = deployment ?? {};
  return (
    status?.observedGeneration === metadata?.generation &&
    status?.updatedReplicas === spec?.replicas &&
    status?.readyReplicas === spec?.replicas
  );
}

async function trouble(kube: Kube, namespace: string): Promise<string> {
  const pods = await kube.list<V1Pod>(kinds.pod, { namespace, labelSelector: 'app=traffic-manager' }).catch(() => []);
  const waiting = pods.flatMap(
    (pod) => pod.status?.containerStatuses?.map(({ state }) => state?.waiting?.message ?? state?.waiting?.reason) ?? [],
  );
  return waiting.find(Boolean) ?? 'its pod does not start';
}

/**
 * Removes what was installed: the agents first, while there is a manager that takes them out without a loss. What is
 * gone already is no error. Errors: `connector.agents-left`, when everything else is gone; those of kube.
 */
export async function uninstallManager(
  kube: Kube,
  options: InstallOptions,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): Promise<void> {
  await takeAgentsOut({ kube, managerNamespace: options.namespace, clock }).catch((error: unknown) =>
    log.warn('the agents could not be taken out', { error: toError(error) }),
  );
  const objects = managerObjects(options).filter(({ kind }) => kind !== 'Namespace');
  await kube.remove(kinds.secret, 'mutator-webhook-tls', options.namespace);
  for (const each of objects.reverse()) {
    const kind = kindOf(each);
    if (kind && each.metadata?.name) {
      await kube.remove(kind, each.metadata.name, each.metadata.namespace).catch((error: unknown) => {
        log.warn('an object could not be removed', { name: each.metadata?.name, error: toError(error) });
        throw error;
      });
    }
  }
  const left = await podsWithAgent(kube).catch(() => []);
  if (left.length > 0) {
    throw agentsLeft(left);
  }
}
