import { sleep, toError } from '../../base/index.ts';
import { type Kind, type Kube, type KubeObject, kindOf, kinds, type V1Pod } from '../../kube/index.ts';
import { agentsRemain } from '../errors.ts';
import { askToRemoveAgents } from './agents.ts';
import { type InstallDeps, pollMs } from './install.ts';
import { checkOurs, findOptional, isOurs, keyOf, readLive } from './live.ts';
import { type ApiObject, certificateSecret, managerLabels, object, ours } from './names.ts';
import { managerObjects } from './objects.ts';
import type { InstallOptions } from './options.ts';

/** A pod whose agent is not gone by then does not end by itself. */
const agentsLimitMs = 180_000;
const podsLimitMs = 30_000;
const configAnnotation = 'telepresence.io/agent-config';

export interface UninstallOptions {
  /** Removes the rest also when agents remain: they pass all traffic to their applications. */
  readonly evenWithAgents?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Removes the agents, then the webhook, then the rest, and the namespace when it was made by an installation and is
 * empty now. What is gone already is no error; what is not ours stays. Errors: `connector.foreign-manager`,
 * `connector.installed-by-helm`, `connector.agents-remain`, those of kube.
 */
export async function uninstallManager(
  deps: InstallDeps,
  options: InstallOptions,
  { evenWithAgents = false, signal }: UninstallOptions = {},
): Promise<void> {
  const { kube, log, onStep } = deps;
  const { namespace } = options;
  const live = await readLive(kube, managerObjects(options));
  await checkOurs(kube, namespace, live);
  const agents = await podsWithAgent(kube, namespace);
  if (agents.length > 0) {
    onStep?.('removing the traffic-agents');
    await removeAgents(deps, namespace, signal).catch((error: unknown) => {
      if (!evenWithAgents || signal?.aborted) {
        throw error;
      }
      log.warn('agents remain', { error });
    });
  }
  const secret = object('v1', 'Secret', { name: certificateSecret, namespace }, {});
  const all = [...managerObjects(options), secret, ...(await findOptional(kube, namespace))];
  const unique = [...new Map(all.map((each) => [keyOf(each), each])).values()];
  onStep?.('removing the traffic-manager');
  for (const [each, present] of await readLive(kube, inOrder(unique))) {
    signal?.throwIfAborted();
    const kind = kindOf(each);
    if (present && kind && each.metadata?.name && each.kind !== 'Namespace') {
      if (isOurs(present)) {
        await kube.remove(kind, each.metadata.name, each.metadata.namespace);
      } else {
        log.warn('left in place: it is not ours', { what: keyOf(each) });
      }
    }
  }
  await waitForEnd(deps, namespace, signal);
  await removeNamespace(deps, namespace, signal);
}

/** The webhook first, so that no pod asks somebody who is about to end; roles after those who use them. */
function inOrder(objects: readonly ApiObject[]): ApiObject[] {
  const first = ['MutatingWebhookConfiguration', 'Deployment'];
  const rank = ({ kind }: ApiObject): number => (first.includes(kind) ? first.indexOf(kind) : first.length);
  return [...objects].reverse().sort((left, right) => rank(left) - rank(right));
}

async function removeAgents(deps: InstallDeps, namespace: string, signal: AbortSignal | undefined): Promise<void> {
  const { kube, clock, onStep } = deps;
  const why = await askToRemoveAgents(kube, namespace, clock, signal).then(
    () => '',
    (error: unknown) => toError(error).message,
  );
  signal?.throwIfAborted();
  const end = clock.nowMs() + (why ? 0 : agentsLimitMs);
  for (;;) {
    const left = await podsWithAgent(kube, namespace);
    if (left.length === 0) {
      return;
    }
    if (clock.nowMs() >= end) {
      throw agentsRemain(left, why);
    }
    onStep?.('waiting for pods to be re-created without an agent', String(left.length));
    await sleep(clock, pollMs, signal);
  }
}

/** `namespace/name` of those whose agent belongs to this manager. */
async function podsWithAgent(kube: Kube, namespace: string): Promise<string[]> {
  const pods = await kube.list<V1Pod>(kinds.pod);
  return pods
    .filter(({ metadata }) => {
      const text = metadata?.annotations?.[configAnnotation];
      return !metadata?.deletionTimestamp && text !== undefined && managerOf(text) === namespace;
    })
    .map(({ metadata }) => `${metadata?.namespace}/${metadata?.name}`);
}

/** From `managerHost`: `traffic-manager.<namespace>`, of newer agents with the cluster's domain. */
function managerOf(config: string): string | undefined {
  try {
    const { managerHost } = JSON.parse(config) as { managerHost?: unknown };
    return typeof managerHost === 'string' ? managerHost.split('.')[1] : undefined;
  } catch {
    return undefined;
  }
}

async function waitForEnd({ kube, clock }: InstallDeps, namespace: string, signal?: AbortSignal): Promise<void> {
  const labelSelector = Object.entries(managerLabels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
  const end = clock.nowMs() + podsLimitMs;
  while (clock.nowMs() < end && (await kube.list<V1Pod>(kinds.pod, { namespace, labelSelector })).length > 0) {
    await sleep(clock, pollMs, signal);
  }
}

const content: readonly Kind[] = [
  kinds.pod,
  kinds.service,
  kinds.deployment,
  kinds.statefulSet,
  kinds.secret,
  kinds.configMap,
  kinds.persistentVolumeClaim,
];

/** Waits for its end: until then nothing can be installed there again. */
async function removeNamespace(
  { kube, clock, onStep }: InstallDeps,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  const namespace = await kube.get<KubeObject>(kinds.namespace, name);
  const label = 'app.kubernetes.io/part-of';
  if (namespace?.metadata?.labels?.[label] !== ours[label]) {
    return;
  }
  const lists = await Promise.all(content.map((kind) => kube.list<KubeObject>(kind, { namespace: name })));
  // Each namespace has this one by itself.
  if (lists.flat().every(({ metadata }) => metadata?.name === 'kube-root-ca.crt')) {
    onStep?.('removing the namespace');
    await kube.remove(kinds.namespace, name);
    const end = clock.nowMs() + podsLimitMs;
    while (clock.nowMs() < end && (await kube.get<KubeObject>(kinds.namespace, name))) {
      await sleep(clock, pollMs, signal);
    }
  }
}
