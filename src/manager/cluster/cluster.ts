import { type Clock, type Disposable, Emitter, type Logger } from '../../base/index.ts';
import {
  type Informer,
  joinInformers,
  type Kind,
  type Kube,
  type KubeObject,
  kinds,
  type V1Deployment,
  type V1Node,
  type V1Pod,
  type V1ReplicaSet,
  type V1Service,
  type V1StatefulSet,
} from '../../kube/index.ts';

export type WorkloadKind = 'Deployment' | 'ReplicaSet' | 'StatefulSet';
export type WorkloadObject = V1Deployment | V1ReplicaSet | V1StatefulSet;

export interface Workload {
  readonly kind: WorkloadKind;
  readonly name: string;
  readonly namespace: string;
  readonly object: WorkloadObject;
}

/** Namespaces of the cluster's own machinery: never touched. */
export const systemNamespaces: ReadonlySet<string> = new Set(['kube-system', 'kube-public', 'kube-node-lease']);

/** What the manager sees of the cluster, kept live by watches. */
export class ClusterView implements Disposable {
  readonly pods: Informer<V1Pod>;
  readonly services: Informer<V1Service>;
  readonly nodes: Informer<V1Node>;
  readonly #deployments: Informer<V1Deployment>;
  readonly #replicaSets: Informer<V1ReplicaSet>;
  readonly #statefulSets: Informer<V1StatefulSet>;
  readonly #changed = new Emitter<void>();
  readonly #gone = new Emitter<Workload>();
  /** A workload was deleted; one of the same name that comes later is another. */
  readonly onWorkloadGone = this.#gone.event;
  /** Something that workloads, their pods or services are made of. */
  readonly onChanged = this.#changed.event;

  /** Without namespaces it is all of them; with some, nothing of the cluster as a whole is asked for. */
  constructor(kube: Kube, log: Logger, namespaces: readonly string[] = []) {
    const watch = <T extends KubeObject>(kind: Kind): Informer<T> =>
      namespaces.length === 0
        ? kube.watch<T>(kind, { log })
        : joinInformers(kind.namespaced ? namespaces.map((namespace) => kube.watch<T>(kind, { log, namespace })) : []);
    this.pods = watch(kinds.pod);
    this.services = watch(kinds.service);
    this.nodes = watch(kinds.node);
    this.#deployments = watch(kinds.deployment);
    this.#replicaSets = watch(kinds.replicaSet);
    this.#statefulSets = watch(kinds.statefulSet);
    for (const informer of this.#all()) {
      informer.onItemChanged(() => this.#changed.fire());
    }
    for (const [kind, informer] of [
      ['Deployment', this.#deployments],
      ['ReplicaSet', this.#replicaSets],
      ['StatefulSet', this.#statefulSets],
    ] as const) {
      informer.onItemChanged(({ type, object }) => {
        for (const workload of type === 'deleted' ? toWorkloads(kind, [object]) : []) {
          this.#gone.fire(workload);
        }
      });
    }
  }

  /** By kind, when its watch was heard of last. */
  heardAtMs(): ReadonlyMap<string, number> {
    const kinds = ['Pod', 'Service', 'Node', 'Deployment', 'ReplicaSet', 'StatefulSet'];
    const all = this.#all().map((informer, index) => [kinds[index] ?? '', informer.heardAtMs()] as const);
    return new Map(all.filter(([, heardAtMs]) => Number.isFinite(heardAtMs)));
  }

  async ready(): Promise<void> {
    await Promise.all(this.#all().map((informer) => informer.ready));
  }

  dispose(): void {
    for (const informer of this.#all()) {
      void informer.dispose();
    }
    this.#changed.dispose();
  }

  /** Everything that can be intercepted; a ReplicaSet of a Deployment is not a workload of its own. */
  workloads(namespace?: string): Workload[] {
    const own = [...this.#replicaSets.items.values()].filter(
      (set) => !set.metadata?.ownerReferences?.some((owner) => owner.controller),
    );
    return [
      ...toWorkloads('Deployment', this.#deployments.items.values()),
      ...toWorkloads('ReplicaSet', own),
      ...toWorkloads('StatefulSet', this.#statefulSets.items.values()),
    ].filter((workload) => (namespace ? workload.namespace === namespace : !systemNamespaces.has(workload.namespace)));
  }

  workload(name: string, namespace: string, kind?: string): Workload | undefined {
    return this.workloads(namespace).find((each) => each.name === name && (!kind || each.kind === kind));
  }

  /** The workload that a pod belongs to, from its owner; a Deployment's ReplicaSet may be too young to be seen yet. */
  workloadOfPod(pod: V1Pod, namespace: string): Workload | undefined {
    const owner = pod.metadata?.ownerReferences?.find((each) => each.controller);
    if (!owner) {
      return undefined;
    }
    if (owner.kind === 'ReplicaSet') {
      const set = this.#replicaSets.items.get(`${namespace}/${owner.name}`);
      const parent = set?.metadata?.ownerReferences?.find(
        (each) => each.controller && each.kind === 'Deployment',
      )?.name;
      const hash = pod.metadata?.labels?.['pod-template-hash'];
      const guess = hash && owner.name.endsWith(`-${hash}`) ? owner.name.slice(0, -hash.length - 1) : undefined;
      const deployment = this.workload(parent ?? guess ?? '', namespace, 'Deployment');
      return deployment ?? this.workload(owner.name, namespace, 'ReplicaSet');
    }
    return this.workload(owner.name, namespace, owner.kind);
  }

  /**
   * The same, where a pod may be quicker than our watches: whoever applies a Deployment gets its first pod within
   * milliseconds. Undefined when nothing was seen in time.
   */
  async awaitWorkloadOfPod(
    pod: V1Pod,
    namespace: string,
    { clock, limitMs }: { readonly clock: Clock; readonly limitMs: number },
  ): Promise<Workload | undefined> {
    const seen = Promise.withResolvers<void>();
    const look = (): Workload | undefined => {
      const workload = this.workloadOfPod(pod, namespace);
      if (workload) {
        seen.resolve();
      }
      return workload;
    };
    const subscription = this.onChanged(look);
    const limit = clock.after(limitMs, () => seen.resolve());
    try {
      if (!look()) {
        await seen.promise;
      }
      return this.workloadOfPod(pod, namespace);
    } finally {
      void subscription.dispose();
      void limit.dispose();
    }
  }

  podsOf(workload: Workload): V1Pod[] {
    return [...this.pods.items.values()].filter(
      (pod) =>
        pod.metadata?.namespace === workload.namespace &&
        !pod.metadata.deletionTimestamp &&
        pod.status?.phase !== 'Succeeded' &&
        pod.status?.phase !== 'Failed' &&
        this.#belongs(pod, workload),
    );
  }

  #belongs(pod: V1Pod, workload: Workload): boolean {
    const owner = this.workloadOfPod(pod, workload.namespace);
    return owner?.name === workload.name && owner.kind === workload.kind;
  }

  /** The services whose selector matches the pods of a workload. */
  servicesOf(workload: Workload): V1Service[] {
    const labels = workload.object.spec?.template?.metadata?.labels ?? {};
    return [...this.services.items.values()].filter((service) => {
      const selector = Object.entries(service.spec?.selector ?? {});
      return (
        service.metadata?.namespace === workload.namespace &&
        selector.length > 0 &&
        selector.every(([key, value]) => labels[key] === value)
      );
    });
  }

  #all(): Informer<KubeObject>[] {
    return [
      this.pods,
      this.services,
      this.nodes,
      this.#deployments,
      this.#replicaSets,
      this.#statefulSets,
    ] as unknown as Informer<KubeObject>[];
  }
}

function toWorkloads(kind: WorkloadKind, objects: Iterable<WorkloadObject>): Workload[] {
  return [...objects].map((object) => ({
    kind,
    name: object.metadata?.name ?? '',
    namespace: object.metadata?.namespace ?? '',
    object,
  }));
}
