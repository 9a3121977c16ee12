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
import { trimOf } from './trim.ts';

const workloadKinds = ['Deployment', 'ReplicaSet', 'StatefulSet'] as const;
export type WorkloadKind = (typeof workloadKinds)[number];
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
  /** By namespace, then by kind and name: thousands of pods ask whose they are, so nobody may look at all of it. */
  readonly #workloads = new Map<string, Map<string, Workload>>();
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
        ? kube.watch<T>(kind, { log, trim: trimOf(kind) })
        : joinInformers(
            kind.namespaced
              ? namespaces.map((namespace) => kube.watch<T>(kind, { log, trim: trimOf(kind), namespace }))
              : [],
          );
    this.pods = watch(kinds.pod);
    this.services = watch(kinds.service);
    this.nodes = watch(kinds.node);
    this.#deployments = watch(kinds.deployment);
    this.#replicaSets = watch(kinds.replicaSet);
    this.#statefulSets = watch(kinds.statefulSet);
    for (const [kind, informer] of this.#workloadInformers()) {
      for (const object of informer.items.values()) {
        this.#note(toWorkload(kind, object));
      }
      informer.onItemChanged(({ type, object }) => {
        const workload = toWorkload(kind, object);
        if (type === 'deleted') {
          this.#workloads.get(workload.namespace)?.delete(nameOf(workload));
          this.#gone.fire(workload);
        } else {
          this.#note(workload);
        }
      });
    }
    for (const informer of this.#all()) {
      informer.onItemChanged(() => this.#changed.fire());
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

  /** Everything that can be intercepted. What has not changed is the same object again. */
  workloads(namespace?: string): Workload[] {
    if (namespace) {
      return [...(this.#workloads.get(namespace)?.values() ?? [])];
    }
    return [...this.#workloads].flatMap(([name, each]) => (systemNamespaces.has(name) ? [] : [...each.values()]));
  }

  workload(name: string, namespace: string, kind?: string): Workload | undefined {
    const known = this.#workloads.get(namespace);
    return workloadKinds
      .filter((each) => !kind || kind === each)
      .map((each) => known?.get(nameOf({ kind: each, name })))
      .find((each) => each !== undefined);
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

  /** Those that serve, or are about to; `withEnding` also those that were told to end, whose containers still run. */
  podsOf(workload: Workload, { withEnding = false } = {}): V1Pod[] {
    return [...this.pods.items.values()].filter(
      (pod) =>
        pod.metadata?.namespace === workload.namespace &&
        (withEnding || !pod.metadata.deletionTimestamp) &&
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

  #note(workload: Workload): void {
    // A ReplicaSet of a Deployment is not a workload of its own.
    const isOwned = workload.object.metadata?.ownerReferences?.some((owner) => owner.controller) === true;
    const known = this.#workloads.get(workload.namespace) ?? new Map<string, Workload>();
    if (workload.kind === 'ReplicaSet' && isOwned) {
      known.delete(nameOf(workload));
    } else {
      this.#workloads.set(workload.namespace, known.set(nameOf(workload), workload));
    }
  }

  #workloadInformers(): readonly (readonly [WorkloadKind, Informer<WorkloadObject>])[] {
    return [
      ['Deployment', this.#deployments as Informer<WorkloadObject>],
      ['ReplicaSet', this.#replicaSets as Informer<WorkloadObject>],
      ['StatefulSet', this.#statefulSets as Informer<WorkloadObject>],
    ];
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

const nameOf = ({ kind, name }: Pick<Workload, 'kind' | 'name'>): string => `${kind}/${name}`;

function toWorkload(kind: WorkloadKind, object: WorkloadObject): Workload {
  return { kind, name: object.metadata?.name ?? '', namespace: object.metadata?.namespace ?? '', object };
}
