import { type Disposable, silentLogger, systemClock } from '../../src/base/index.ts';
import { type Informer, type Kind, type Kube, kinds, type V1Pod } from '../../src/kube/index.ts';

export const simulatedNode = 'load-node';
/** Addresses of simulated pods and clients; the node's kernel takes the whole range for its own. */
export const simulatedRange = '10.97.0.0/16';

const leaseKind: Kind = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', plural: 'leases', namespaced: true };
const leaseNamespace = 'kube-node-lease';
const leasePeriodMs = 10_000;
const retryMs = 1_000;
const now = (): string => new Date().toISOString();

/** One address after the other, far from their end. */
export function addresses(first: number): () => string {
  let next = first;
  return () => {
    next++;
    return `10.97.${(next >> 8) & 0xff}.${next & 0xff}`;
  };
}

/**
 * A node without a machine: it renews its lease, and of every pod that the scheduler gives it, it says that it runs. To
 * everybody else in the cluster, the manager above all, these pods are like any others.
 */
export class SimulatedKubelet implements Disposable {
  readonly pods: Informer<V1Pod>;
  readonly #kube: Kube;
  readonly #address = addresses(0x2000);
  readonly #busy = new Set<string>();
  readonly #renewal: Disposable;

  private constructor(kube: Kube) {
    this.#kube = kube;
    this.pods = kube.watch<V1Pod>(kinds.pod, { fieldSelector: `spec.nodeName=${simulatedNode}`, log: silentLogger });
    this.pods.onItemChanged(({ type, object }) => {
      if (type !== 'deleted') {
        void this.#serve(object);
      }
    });
    this.#renewal = systemClock.every(leasePeriodMs, () => void this.#renew().catch(() => undefined));
  }

  static async start(kube: Kube): Promise<SimulatedKubelet> {
    await kube.remove(kinds.node, simulatedNode);
    await kube.create(kinds.node, {
      metadata: { name: simulatedNode, labels: { load: 'simulated' } },
      ...{
        apiVersion: 'v1',
        kind: 'Node',
        spec: { taints: [{ key: 'load', value: 'simulated', effect: 'NoSchedule' }] },
      },
    });
    const resources = { cpu: '1k', memory: '1Ti', pods: '10k' };
    const conditions = [{ type: 'Ready', status: 'True', reason: 'Simulated', lastHeartbeatTime: now() }];
    const status = { capacity: resources, allocatable: resources, conditions };
    await kube.patch(
      { ...kinds.node, plural: `nodes/${simulatedNode}/status` },
      '',
      undefined,
      { status },
      'strategic',
    );
    const spec = { holderIdentity: simulatedNode, leaseDurationSeconds: 40, renewTime: micro() };
    const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', spec };
    await kube.remove(leaseKind, simulatedNode, leaseNamespace);
    await kube.create(leaseKind, { metadata: { name: simulatedNode, namespace: leaseNamespace }, ...lease });
    const kubelet = new SimulatedKubelet(kube);
    await kubelet.pods.ready;
    return kubelet;
  }

  async stop(): Promise<void> {
    void this.#renewal.dispose();
    await this.pods.dispose();
    await this.#kube.remove(kinds.node, simulatedNode);
    await this.#kube.remove(leaseKind, simulatedNode, leaseNamespace);
  }

  dispose(): void {
    void this.stop();
  }

  async #renew(): Promise<void> {
    await this.#kube.patch(leaseKind, simulatedNode, leaseNamespace, { spec: { renewTime: micro() } }, 'merge');
  }

  async #serve(pod: V1Pod): Promise<void> {
    const { name = '', namespace = '', uid = '', deletionTimestamp } = pod.metadata ?? {};
    const step = deletionTimestamp ? `end ${uid}` : `start ${uid}`;
    if (this.#busy.has(step) || (!deletionTimestamp && pod.status?.podIP)) {
      return;
    }
    this.#busy.add(step);
    try {
      await (deletionTimestamp ? this.#end(name, namespace) : this.#start(pod, name, namespace));
    } catch {
      // The machine is busy, or somebody else was quicker.
      systemClock.after(retryMs, () => {
        this.#busy.delete(step);
        const now = this.pods.items.get(`${namespace}/${name}`);
        if (now) {
          void this.#serve(now);
        }
      });
    }
  }

  async #end(name: string, namespace: string): Promise<void> {
    const atOnce: Kind = { ...kinds.pod, plural: `pods/${name}?gracePeriodSeconds=0` };
    await this.#kube.remove(atOnce, '', namespace);
  }

  async #start(pod: V1Pod, name: string, namespace: string): Promise<void> {
    const podIP = this.#address();
    const running = { running: { startedAt: now() } };
    const containerStatuses = (pod.spec?.containers ?? []).map((container) => ({
      ...{ name: container.name, image: container.image, imageID: 'simulated', ready: true, started: true },
      ...{ restartCount: 0, state: running },
    }));
    const status = {
      ...{
        phase: 'Running',
        podIP,
        podIPs: [{ ip: podIP }],
        hostIP: '172.31.77.2',
        startTime: now(),
        containerStatuses,
      },
      conditions: ['PodScheduled', 'Initialized', 'ContainersReady', 'Ready'].map((type) => ({
        ...{ type, status: 'True', lastTransitionTime: now() },
      })),
    };
    const path: Kind = { ...kinds.pod, plural: `pods/${name}/status` };
    await this.#kube.patch(path, '', namespace, { status }, 'strategic');
  }
}

/** A Lease wants microseconds. */
const micro = (): string => now().replace('Z', '000Z');
