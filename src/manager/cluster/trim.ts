import {
  type Kind,
  type KubeObject,
  kinds,
  type V1Container,
  type V1Node,
  type V1Pod,
  type V1ReplicaSet,
} from '../../kube/index.ts';

/** What the API server and kubectl remember for themselves: often half of an object. */
const bookkeeping = 'kubectl.kubernetes.io/last-applied-configuration';

/**
 * What the manager keeps of an object. It holds every pod of the cluster in memory and reads a tenth of each; workloads
 * stay whole but for the bookkeeping, since an agent is planned from their templates.
 */
export function trimOf(kind: Kind): (object: KubeObject) => KubeObject {
  return (object) => {
    const plain = { ...object, metadata: trimMetadata(object.metadata) };
    switch (kind) {
      case kinds.pod:
        return trimPod(plain as V1Pod);
      case kinds.node:
        return trimNode(plain as V1Node);
      case kinds.replicaSet:
        return trimReplicaSet(plain as V1ReplicaSet);
      default:
        return plain;
    }
  };
}

function trimMetadata(metadata: KubeObject['metadata']): NonNullable<KubeObject['metadata']> {
  const { managedFields, annotations, ...rest } = (metadata ?? {}) as NonNullable<KubeObject['metadata']> & {
    readonly managedFields?: unknown;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  const kept = Object.entries(annotations ?? {}).filter(([name]) => name !== bookkeeping);
  return { ...rest, ...(kept.length > 0 ? { annotations: Object.fromEntries(kept) } : {}) };
}

function trimPod({ metadata, spec, status }: V1Pod): V1Pod {
  const names = (containers: readonly V1Container[] | undefined): V1Container[] =>
    (containers ?? []).map(({ name, image, ports }) => ({
      name,
      ...(image ? { image } : {}),
      ...(ports ? { ports } : {}),
    }));
  const { phase, podIP, podIPs, conditions, containerStatuses, initContainerStatuses } = status ?? {};
  return defined({
    metadata,
    spec: defined({
      hostNetwork: spec?.hostNetwork,
      nodeName: spec?.nodeName,
      serviceAccountName: spec?.serviceAccountName,
      initContainers: spec?.initContainers ? names(spec.initContainers) : undefined,
      containers: names(spec?.containers),
    }),
    status: defined({
      phase,
      podIP,
      podIPs,
      conditions: conditions?.map(({ type, status: is, message }) => defined({ type, status: is, message })),
      containerStatuses: containerStatuses?.map(trimContainer),
      initContainerStatuses: initContainerStatuses?.map(trimContainer),
    }),
  }) as V1Pod;
}

/** Why one does not start, or has ended, is told to people. */
function trimContainer({ name, ready, restartCount, state }: V1ContainerStatus): V1ContainerStatus {
  return defined({ name, ready, restartCount, state }) as V1ContainerStatus;
}

type V1ContainerStatus = NonNullable<NonNullable<V1Pod['status']>['containerStatuses']>[number];

/** A node's status lists the images of its disk. */
function trimNode({ metadata, spec }: V1Node): V1Node {
  return defined({ metadata, spec: defined({ podCIDR: spec?.podCIDR, podCIDRs: spec?.podCIDRs }) }) as V1Node;
}

/** A Deployment keeps ten of them, each with a copy of its template; only their owner is of interest. */
function trimReplicaSet(set: V1ReplicaSet): V1ReplicaSet {
  const isOwned = set.metadata?.ownerReferences?.some((owner) => owner.controller) === true;
  return isOwned ? (defined({ metadata: set.metadata }) as V1ReplicaSet) : set;
}

function defined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as T;
}
