import type { Clock } from '../../base/index.ts';
import type { V1Pod } from '../../kube/index.ts';
import type { wire } from '../../protocol/index.ts';
import type { ClusterView } from '../cluster/cluster.ts';

/** An agent may be quicker than the news of its pod's address. */
const unseenPodMs = 5_000;

export interface PodCallersDeps {
  readonly view: Pick<ClusterView, 'pods' | 'workloadOfPod'>;
  readonly clock: Clock;
}

/**
 * Whether a call comes from the pod that it claims to come from. Addresses in the pod network cannot be chosen by who is in
 * it, and a forwarded connection comes from the loopback address, which is no pod's: so nobody speaks in the name of an
 * agent but what runs in that agent's pod.
 */
export class PodCallers {
  readonly #deps: PodCallersDeps;

  constructor(deps: PodCallersDeps) {
    this.#deps = deps;
  }

  /** Of an agent that arrives: its pod exists, is of the workload that it names, and the call comes from there. */
  async isAgent(address: string, info: wire.AgentInfo): Promise<boolean> {
    const isIt = (): boolean => {
      const pod = this.#podOf(info);
      const owner = pod && this.#deps.view.workloadOfPod(pod, info.namespace);
      const isOfWorkload = owner?.name === info.name && (!info.kind || info.kind === owner.kind);
      return isOfWorkload && hasAddress(pod, address) && hasAddress(pod, info.podIp);
    };
    const pod = this.#podOf(info);
    // Whoever claims to be a pod that is known, and at another address, need not be waited for.
    if (isIt() || address === '' || address !== info.podIp || (pod?.status?.podIPs?.length ?? 0) > 0) {
      return isIt();
    }
    await this.#until(isIt);
    return isIt();
  }

  /** Of an agent that has arrived: cheap, and asked at every call. */
  isStillAgent(address: string, info: wire.AgentInfo): boolean {
    const pod = this.#podOf(info);
    return pod ? hasAddress(pod, address) : address !== '' && address === info.podIp;
  }

  /** The same, of a pod that the cluster knows by this very uid: whatever is not known is nobody. */
  isKnownPod(address: string, info: wire.AgentInfo): boolean {
    const pod = this.#podOf(info);
    return pod?.metadata?.uid === info.podUid && hasAddress(pod, address);
  }

  /** Whether anything of this namespace calls from here; what has just been started is waited for. */
  async isInNamespace(address: string, namespace: string): Promise<boolean> {
    const isIt = (): boolean =>
      [...this.#deps.view.pods.items.values()].some(
        (pod) => pod.metadata?.namespace === namespace && !pod.spec?.hostNetwork && hasAddress(pod, address),
      );
    if (address !== '' && !isIt()) {
      await this.#until(isIt);
    }
    return address !== '' && isIt();
  }

  #podOf({ namespace, podName, podUid }: wire.AgentInfo): V1Pod | undefined {
    const pod = this.#deps.view.pods.items.get(`${namespace}/${podName}`);
    return podUid === '' || pod?.metadata?.uid === podUid ? pod : undefined;
  }

  async #until(isIt: () => boolean): Promise<void> {
    const seen = Promise.withResolvers<void>();
    const subscription = this.#deps.view.pods.onItemChanged(() => {
      if (isIt()) {
        seen.resolve();
      }
    });
    const limit = this.#deps.clock.after(unseenPodMs, () => seen.resolve());
    await seen.promise;
    void subscription.dispose();
    void limit.dispose();
  }
}

const hasAddress = (pod: V1Pod | undefined, address: string): boolean =>
  address !== '' && pod?.status?.podIPs?.some(({ ip }) => ip === address) === true;
