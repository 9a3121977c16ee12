import * as v from 'valibot';
import { type Kube, type KubeObject, kinds } from '../../kube/index.ts';
import { labelSelectorSchema, selects } from '../../protocol/index.ts';
import { managersOverlap } from '../errors.ts';
import { whenForbidden } from './live.ts';
import { webhook } from './objects.ts';
import type { InstallOptions } from './options.ts';

/** As much as matters here of an injector's webhook, whoever installed it: the field names all of them alike. */
const webhooksSchema = v.object({
  metadata: v.object({ name: v.pipe(v.string(), v.startsWith('agent-injector-webhook-')) }),
  webhooks: v.array(
    v.object({
      clientConfig: v.object({ service: v.object({ namespace: v.string() }) }),
      namespaceSelector: v.optional(labelSelectorSchema, {}),
    }),
  ),
});
type Webhooks = v.InferOutput<typeof webhooksSchema>;

/**
 * Two traffic-managers that work in one namespace would each give its pods an agent, of which the other knows nothing.
 * Errors: `connector.managers-overlap`, those of kube.
 */
export async function checkAlone(kube: Kube, options: InstallOptions): Promise<void> {
  const others = await othersThan(kube, options.namespace);
  const own = read(webhook(options));
  if (others.length === 0 || !own) {
    return;
  }
  const namespaces = await namespacesOf(kube, options);
  for (const { namespace, webhooks } of others) {
    const shared = namespaces.flatMap(({ metadata }) => {
      const labels = metadata?.labels ?? {};
      return isSelected(webhooks, labels) && isSelected(own, labels) ? [metadata?.name ?? ''] : [];
    });
    if (shared.length > 0 && (await isThere(kube, namespace))) {
      throw managersOverlap(namespace, shared.sort());
    }
  }
}

async function othersThan(
  kube: Kube,
  namespace: string,
): Promise<readonly { readonly namespace: string; readonly webhooks: Webhooks }[]> {
  // Who may not look at them may not make one either, and reads so where that is tried.
  const all = await kube.list<KubeObject>(kinds.mutatingWebhook).catch(whenForbidden(() => []));
  return all.flatMap((each) => {
    const webhooks = read(each);
    const theirs = webhooks?.webhooks[0]?.clientConfig.service.namespace;
    return webhooks && theirs && theirs !== namespace ? [{ namespace: theirs, webhooks }] : [];
  });
}

/** Who may not look at all of them knows those that were named, though not by their labels. */
async function namespacesOf(kube: Kube, { namespaces }: InstallOptions): Promise<readonly KubeObject[]> {
  const named = (): KubeObject[] =>
    namespaces.map((name) => ({ metadata: { name, labels: { 'kubernetes.io/metadata.name': name } } }));
  return kube.list<KubeObject>(kinds.namespace).catch(whenForbidden(named));
}

function read(object: KubeObject): Webhooks | undefined {
  const parsed = v.safeParse(webhooksSchema, object);
  return parsed.success ? parsed.output : undefined;
}

const isSelected = ({ webhooks }: Webhooks, labels: Readonly<Record<string, string>>): boolean =>
  webhooks.some(({ namespaceSelector }) => selects(namespaceSelector, labels));

/** A webhook may be all that is left: its namespace was deleted, and nobody answers. Newer public charts have a StatefulSet. */
async function isThere(kube: Kube, namespace: string): Promise<boolean> {
  const found = await Promise.all(
    [kinds.deployment, kinds.statefulSet].map((kind) => kube.get<KubeObject>(kind, 'traffic-manager', namespace)),
  ).catch(whenForbidden(() => [true]));
  return found.some(Boolean);
}
