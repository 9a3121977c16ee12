import { Emitter, silentLogger } from '../../../src/base/index.ts';
import type {
  Informer,
  InformerChange,
  Kind,
  Kube,
  KubeObject,
  V1Container,
  V1Deployment,
  V1Pod,
  V1Service,
  V1ServicePort,
} from '../../../src/kube/index.ts';
import { ClusterView, type Workload } from '../../../src/manager/cluster/cluster.ts';

/** A cluster in memory: objects by kind, and a record of what was done to it. */
export class FakeCluster {
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #emitters = new Map<string, Emitter<InformerChange<KubeObject>>>();
  readonly calls: string[] = [];
  eviction: 'evicted' | 'gone' | 'blocked' = 'evicted';
  /** What the next patch or eviction fails with. */
  failure: unknown;
  /** Runs after a patch or an eviction, as the cluster's controllers do. */
  reaction: () => void = () => undefined;
  readonly kube: Kube;
  readonly view: ClusterView;

  constructor(...objects: KubeObject[]) {
    for (const object of objects) {
      this.put(object);
    }
    this.kube = {
      watch: (kind: Kind) => this.#informer(kind.kind),
      list: async () => [],
      get: async (kind: Kind, name: string) => this.#itemsOf(kind.kind).get(`/${name}`),
      evict: async (pod: string) => {
        this.#record(`evict ${pod}`);
        return this.eviction;
      },
      patch: async (kind: Kind, name: string, _namespace: string, _body: unknown, type: string) => {
        this.#record(`patch ${kind.kind} ${name} ${type}`);
        return {};
      },
    } as unknown as Kube;
    this.view = new ClusterView(this.kube, silentLogger);
  }

  put(object: KubeObject): void {
    const kind = kindOf(object);
    const key = keyOf(object);
    const type = this.#itemsOf(kind).has(key) ? 'modified' : 'added';
    this.#itemsOf(kind).set(key, object);
    this.#emitters.get(kind)?.fire({ type, object });
  }

  remove(object: KubeObject): void {
    const kind = kindOf(object);
    this.#itemsOf(kind).delete(keyOf(object));
    this.#emitters.get(kind)?.fire({ type: 'deleted', object });
  }

  workload(name: string, namespace = 'shop'): Workload {
    const found = this.view.workload(name, namespace);
    if (!found) {
      throw new RangeError(`the fake cluster has no ${name}`);
    }
    return found;
  }

  #record(call: string): void {
    this.calls.push(call);
    if (this.failure !== undefined) {
      throw this.failure;
    }
    setImmediate(() => this.reaction());
  }

  #itemsOf(kind: string): Map<string, KubeObject> {
    const items = this.#objects.get(kind) ?? new Map<string, KubeObject>();
    this.#objects.set(kind, items);
    return items;
  }

  #informer(kind: string): Informer<KubeObject> {
    const emitter = new Emitter<InformerChange<KubeObject>>();
    this.#emitters.set(kind, emitter);
    return {
      items: this.#itemsOf(kind),
      onItemChanged: emitter.event,
      ready: Promise.resolve(),
      heardAtMs: () => 0,
      dispose: () => undefined,
    };
  }
}

const kindOf = (object: KubeObject): string => (object as { kind?: string }).kind ?? '';
const keyOf = ({ metadata }: KubeObject): string => `${metadata?.namespace ?? ''}/${metadata?.name ?? ''}`;

export const webContainer: V1Container = {
  name: 'server',
  image: 'web:1',
  ports: [{ name: 'http', containerPort: 8080 }],
};

interface DeploymentOptions {
  readonly name?: string;
  readonly namespace?: string;
  readonly replicas?: number;
  readonly containers?: V1Container[];
  readonly annotations?: Record<string, string>;
  readonly hostNetwork?: boolean;
}

export function deployment(options: DeploymentOptions = {}): V1Deployment {
  const { name = 'web', namespace = 'shop', replicas = 1 } = options;
  const { containers = [webContainer], annotations, hostNetwork } = options;
  return {
    kind: 'Deployment',
    metadata: { name, namespace, uid: `uid-${name}` },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name }, ...(annotations ? { annotations } : {}) },
        spec: { containers, ...(hostNetwork ? { hostNetwork } : {}) },
      },
    },
  };
}

/** A pod as the Deployment's ReplicaSet makes it. */
export function podOf(owner: string, suffix: string, more: { isReady?: boolean; config?: string } = {}): V1Pod {
  const { isReady = true, config } = more;
  return {
    kind: 'Pod',
    metadata: {
      name: `${owner}-abc-${suffix}`,
      namespace: 'shop',
      uid: `uid-${owner}-${suffix}`,
      labels: { app: owner, 'pod-template-hash': 'abc' },
      ownerReferences: [
        { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: `${owner}-abc`, uid: 'r', controller: true },
      ],
      ...(config === undefined ? {} : { annotations: { 'telepresence.io/agent-config': config } }),
    },
    spec: { containers: [webContainer] },
    status: {
      phase: 'Running',
      podIPs: [{ ip: '10.0.0.1' }],
      conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }],
    },
  };
}

export function service(name: string, app: string, ports: V1ServicePort[]): V1Service {
  return {
    kind: 'Service',
    metadata: { name, namespace: 'shop', uid: `uid-${name}` },
    spec: { selector: { app }, ports },
  };
}

export const webService = (): V1Service => service('web', 'web', [{ name: 'http', port: 80, targetPort: 'http' }]);

export const planOptions = { managerHost: 'traffic-manager.ambassador', managerPort: 8081, logLevel: 'info' };
