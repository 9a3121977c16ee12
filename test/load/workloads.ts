import { type Kube, kinds, type V1Deployment } from '../../src/kube/index.ts';

export interface WorkloadName {
  readonly name: string;
  readonly namespace: string;
}

const parallel = 8;
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
      await this.#kube.create(kinds.service, {
        metadata: names,
        ...{ spec: { selector: { app: names.name }, ports: [{ name: 'http', port: 80, targetPort: 'http' }] } },
      });
    }
    await this.#kube.create(kinds.deployment, deployment(names, options.hasAgent));
    return names;
  }

  async scale({ name, namespace }: WorkloadName, replicas: number): Promise<void> {
    await this.#kube.patch(kinds.deployment, name, namespace, { spec: { replicas } }, 'merge');
  }

  async delete({ name, namespace }: WorkloadName): Promise<void> {
    await this.#kube.remove(kinds.deployment, name, namespace);
  }

  async remove(): Promise<void> {
    const left = await this.#kube.list<{ metadata?: { name?: string } }>(kinds.namespace, {
      labelSelector: `${label}=yes`,
    });
    await forEach(left, ({ metadata }) => this.#kube.remove(kinds.namespace, metadata?.name ?? ''));
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
