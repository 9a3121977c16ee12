import { isReason } from '../../src/base/index.ts';
import { type Kube, kinds, type V1Deployment } from '../../src/kube/index.ts';
import { waitFor } from '../cluster/shell.ts';

export interface WorkloadName {
  readonly name: string;
  readonly namespace: string;
}

const parallel = 8;
const maxAttempts = 5;
const removalLimitMs = 600_000;
const label = 'nearfield-load';

/** Does something for each, a few at a time. */
export async function forEach<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: parallel }, async () => {
      for (const item of left) {
        await work(item);
      }
    }),
  );
}

/** The API server of a busy machine may take longer than a call waits; what is there already was made by the call before. */
async function patiently(work: () => Promise<unknown>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await work();
      return;
    } catch (error) {
      if (isReason(error, 'kube.status-409')) {
        return;
      }
      if (attempt === maxAttempts) {
        throw error;
      }
    }
  }
}

/** Deployments of one replica each on the simulated node, spread over namespaces; the first `served` have a service. */
export class Workloads {
  readonly namespaces: readonly string[];
  readonly #kube: Kube;
  #next = 0;

  constructor(kube: Kube, namespaces: number) {
    this.#kube = kube;
    this.namespaces = Array.from({ length: namespaces }, (_, number) => `load-${number}`);
  }

  async prepare(): Promise<void> {
    await this.remove();
    for (const name of this.namespaces) {
      await this.#kube.create(kinds.namespace, { metadata: { name, labels: { [label]: 'yes' } } });
    }
  }

  async create(options: { readonly isServed: boolean; readonly hasAgent: boolean }): Promise<WorkloadName> {
    const number = this.#next++;
    const names = { name: `app-${number}`, namespace: this.namespaces[number % this.namespaces.length] ?? '' };
    if (options.isServed) {
      const spec = { selector: { app: names.name }, ports: [{ name: 'http', port: 80, targetPort: 'http' }] };
      await patiently(() => this.#kube.create(kinds.service, { metadata: names, ...{ spec } }));
    }
    await patiently(() => this.#kube.create(kinds.deployment, deployment(names, options.hasAgent)));
    return names;
  }

  async scale({ name, namespace }: WorkloadName, replicas: number): Promise<void> {
    await patiently(() => this.#kube.patch(kinds.deployment, name, namespace, { spec: { replicas } }, 'merge'));
  }

  async delete({ name, namespace }: WorkloadName): Promise<void> {
    await patiently(() => this.#kube.remove(kinds.deployment, name, namespace));
  }

  /** Waits for their end: until then nothing can be made anew. */
  async remove(): Promise<void> {
    const left = (): Promise<{ metadata?: { name?: string } }[]> =>
      this.#kube.list(kinds.namespace, { labelSelector: `${label}=yes` });
    await forEach(await left(), ({ metadata }) => this.#kube.remove(kinds.namespace, metadata?.name ?? ''));
    await waitFor('the end of the namespaces', removalLimitMs, async () =>
      (await left()).length === 0 ? true : undefined,
    );
  }
}

/** As many fields as an ordinary one has: what the manager keeps of it is measured. */
function deployment({ name, namespace }: WorkloadName, hasAgent: boolean): V1Deployment {
  const env = Array.from({ length: 12 }, (_, number) => ({
    name: `SETTING_${number}`,
    value: `value ${number} of ${name}`,
  }));
  const probe = { httpGet: { path: '/healthz', port: 'http' }, periodSeconds: 5 };
  const container = {
    ...{ name: 'server', image: 'nearfield/pause:1', env, readinessProbe: probe, livenessProbe: probe },
    ports: [{ name: 'http', containerPort: 8080 }],
    resources: { requests: { cpu: '1m', memory: '1Mi' } },
  };
  const annotations: Record<string, string> = hasAgent ? { 'telepresence.io/inject-traffic-agent': 'enabled' } : {};
  return {
    metadata: { name, namespace, labels: { app: name, team: 'load' } },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name }, annotations },
        spec: {
          ...{ containers: [container], nodeSelector: { load: 'simulated' }, terminationGracePeriodSeconds: 1 },
          tolerations: [{ operator: 'Exists' }],
          automountServiceAccountToken: false,
        },
      },
    },
  };
}
