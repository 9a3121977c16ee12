import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Disposable, silentLogger } from '../../src/base/index.ts';
import { type Informer, type Kube, kinds, type V1Pod } from '../../src/kube/index.ts';
import { waitFor } from '../cluster/shell.ts';

export const managerNamespace = 'ambassador';
const cgroups = '/sys/fs/cgroup';

export interface Usage {
  /** What the limit is held against, without the pages of files. */
  readonly memoryMb: number;
  readonly peakMb: number;
  readonly cpuSeconds: number;
}

/** The traffic-manager's pod as it is now, seen from its node. */
export class ManagerPod implements Disposable {
  readonly #kube: Kube;
  readonly #pods: Informer<V1Pod>;
  readonly #restarts = new Map<string, number>();

  private constructor(kube: Kube, pods: Informer<V1Pod>) {
    this.#kube = kube;
    this.#pods = pods;
    pods.onItemChanged(({ object }) => {
      const count = object.status?.containerStatuses?.[0]?.restartCount ?? 0;
      this.#restarts.set(object.metadata?.uid ?? '', count);
    });
  }

  static async follow(kube: Kube): Promise<ManagerPod> {
    const labelSelector = 'app=traffic-manager';
    const pods = kube.watch<V1Pod>(kinds.pod, { namespace: managerNamespace, labelSelector, log: silentLogger });
    await pods.ready;
    return new ManagerPod(kube, pods);
  }

  get running(): V1Pod | undefined {
    return [...this.#pods.items.values()].find(
      (pod) =>
        !pod.metadata?.deletionTimestamp &&
        pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'),
    );
  }

  get address(): string {
    return this.running?.status?.podIP ?? '127.0.0.1';
  }

  /** Of the containers of all pods that there were: nobody has wanted those. */
  get restarts(): number {
    return [...this.#restarts.values()].reduce((sum, count) => sum + count, 0);
  }

  async usage(): Promise<Usage | undefined> {
    const uid = this.running?.metadata?.uid;
    if (!uid) {
      return undefined;
    }
    const read = async (controller: string, file: string): Promise<string> =>
      readFile(join(await folderOf(controller, uid), file), 'utf8');
    try {
      const rss = /^total_rss (\d+)$/m.exec(await read('memory', 'memory.stat'))?.[1];
      const peak = await read('memory', 'memory.max_usage_in_bytes');
      return {
        memoryMb: Number(rss) / 1e6,
        peakMb: Number(peak) / 1e6,
        cpuSeconds: Number(await read('cpuacct', 'cpuacct.usage')) / 1e9,
      };
    } catch {
      return undefined;
    }
  }

  /** `kill`: without warning. `rollout`: as `kubectl rollout restart` does it. Resolves when the next one is ready. */
  async restart(how: 'kill' | 'rollout'): Promise<void> {
    const before = this.running?.metadata?.uid;
    if (how === 'kill') {
      const name = this.running?.metadata?.name ?? '';
      await this.#kube.remove({ ...kinds.pod, plural: `pods/${name}?gracePeriodSeconds=0` }, '', managerNamespace);
    } else {
      const annotations = { 'kubectl.kubernetes.io/restartedAt': new Date().toISOString() };
      const body = { spec: { template: { metadata: { annotations } } } };
      await this.#kube.patch(kinds.deployment, 'traffic-manager', managerNamespace, body, 'strategic');
    }
    await waitFor('another manager being ready', 120_000, async () => {
      const uid = this.running?.metadata?.uid;
      return uid !== undefined && uid !== before ? true : undefined;
    });
  }

  async dispose(): Promise<void> {
    await this.#pods.dispose();
  }
}

async function folderOf(controller: string, uid: string): Promise<string> {
  for (const quality of ['burstable', 'besteffort', '']) {
    const parent = join(cgroups, controller, 'kubepods', quality);
    const found = (await readdir(parent).catch(() => [])).find((name) => name.includes(uid));
    if (found) {
      return join(parent, found);
    }
  }
  throw new Error(`no cgroup of pod ${uid}`);
}
