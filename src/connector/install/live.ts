import { isReason } from '../../base/index.ts';
import { fieldManager, type Kind, type Kube, type KubeObject, kindOf, kinds } from '../../kube/index.ts';
import { foreignManager, installedByHelm } from '../errors.ts';
import { type ApiObject, ours } from './names.ts';

type LiveObject = KubeObject & {
  readonly metadata?: {
    readonly annotations?: Readonly<Record<string, string>>;
    readonly managedFields?: readonly { readonly manager?: string }[];
  };
};

/** By its labels, or because the manager wrote it: the certificate's Secret has no labels. */
export function isOurs(object: KubeObject): boolean {
  const { labels, managedFields } = (object as LiveObject).metadata ?? {};
  return (
    Object.entries(ours).some(([name, value]) => labels?.[name] === value) ||
    managedFields?.some(({ manager }) => manager === fieldManager) === true
  );
}

const isHelms = (object: KubeObject): boolean =>
  object.metadata?.labels?.['app.kubernetes.io/managed-by'] === 'Helm' ||
  (object as LiveObject).metadata?.annotations?.['meta.helm.sh/release-name'] !== undefined;

/** What the cluster has of these objects, in their order; undefined where it has none. */
export async function readLive(
  kube: Kube,
  objects: readonly ApiObject[],
): Promise<readonly (readonly [ApiObject, KubeObject | undefined])[]> {
  return Promise.all(objects.map(async (object) => [object, await read(kube, object)] as const));
}

async function read(kube: Kube, object: ApiObject): Promise<KubeObject | undefined> {
  const kind = kindOf(object);
  return kind && object.metadata?.name
    ? kube.get<KubeObject>(kind, object.metadata.name, object.metadata.namespace)
    : undefined;
}

/**
 * A traffic-manager that somebody else installed is never touched. Of newer public charts it is a StatefulSet.
 * Errors: `connector.foreign-manager`, `connector.installed-by-helm`.
 */
export async function checkOurs(
  kube: Kube,
  namespace: string,
  live: readonly (readonly [ApiObject, KubeObject | undefined])[],
): Promise<void> {
  const stateful = await kube.get<KubeObject>(kinds.statefulSet, 'traffic-manager', namespace);
  const present = live.flatMap(([{ kind }, object]) => (object && kind !== 'Namespace' ? [{ kind, object }] : []));
  const foreign = stateful ? 'StatefulSet traffic-manager' : nameOf(present.find(({ object }) => !isOurs(object)));
  if (foreign) {
    throw foreignManager(namespace, foreign);
  }
  if (present.some(({ object }) => isHelms(object))) {
    throw installedByHelm(namespace);
  }
}

const nameOf = (found: { readonly kind: string; readonly object: KubeObject } | undefined): string | undefined =>
  found && `${found.kind} ${found.object.metadata?.name ?? ''}`;

/** For `catch`: what is taken in place of what this person may not see; every other error stays. */
export const whenForbidden =
  <T>(otherwise: () => T) =>
  (error: unknown): T => {
    if (isReason(error, 'kube.forbidden')) {
      return otherwise();
    }
    throw error;
  };

const optionalKinds: readonly Kind[] = [
  kinds.service,
  kinds.role,
  kinds.roleBinding,
  kinds.clusterRole,
  kinds.clusterRoleBinding,
  kinds.networkPolicy,
];

/** Objects of this installation that depend on its options: they may be there from other options than today's. */
export async function findOptional(kube: Kube, namespace: string): Promise<ApiObject[]> {
  const labelSelector = 'app.kubernetes.io/part-of=nearfield';
  const own = [
    `traffic-manager-work-${namespace}`,
    `traffic-manager-client-${namespace}`,
    `traffic-manager-${namespace}`,
  ];
  const found = await Promise.all(
    optionalKinds.map(async ({ apiVersion, kind, ...rest }) => {
      const listed = await kube
        .list<KubeObject>({ apiVersion, kind, ...rest }, { labelSelector })
        // Who may not look everywhere has nothing installed everywhere.
        .catch(whenForbidden(() => kube.list<KubeObject>({ apiVersion, kind, ...rest }, { labelSelector, namespace })));
      return listed
        .filter(({ metadata }) => metadata?.namespace === namespace || own.includes(metadata?.name ?? ''))
        .map((object) => ({ ...object, apiVersion, kind }));
    }),
  );
  return found.flat();
}

/** One object has one such key: kind, namespace, name. */
export const keyOf = ({ kind, metadata }: ApiObject): string =>
  `${kind} ${metadata?.namespace ? `${metadata.namespace}/` : ''}${metadata?.name ?? ''}`;
