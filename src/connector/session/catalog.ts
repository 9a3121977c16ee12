import { type Disposable, Emitter, type Logger } from '../../base/index.ts';
import { type Informer, type Kube, kinds, type V1Namespace, type V1Service } from '../../kube/index.ts';
import { wire } from '../../protocol/index.ts';
import type { NamespaceView, ServiceView, WorkloadView } from '../contract.ts';

const systemNamespaces = new Set(['kube-system', 'kube-public', 'kube-node-lease']);
const kindNames: Record<number, string> = { 1: 'Deployment', 2: 'ReplicaSet', 3: 'StatefulSet', 4: 'Rollout' };
const stateNames: Record<number, WorkloadView['state']> = { 0: 'no-agent', 1: 'installed', 2: 'intercepted' };

interface CatalogParts {
  readonly own: string;
  readonly mapped: readonly string[];
  readonly services: Informer<V1Service>;
  readonly namespaces: Informer<V1Namespace> | undefined;
}

/** Namespaces and what is in them, kept live: names and services from the API server, workloads from the manager. */
export class Catalog implements Disposable {
  readonly #namespaces: Informer<V1Namespace> | undefined;
  readonly #services: Informer<V1Service>;
  readonly #own: string;
  readonly #mapped: readonly string[];
  readonly #workloads = new Map<string, Map<string, WorkloadView>>();
  readonly #changed = new Emitter<void>();
  readonly onChanged = this.#changed.event;

  private constructor({ own, mapped, services, namespaces }: CatalogParts) {
    this.#own = own;
    this.#mapped = mapped;
    this.#services = services;
    this.#namespaces = namespaces;
    services.onItemChanged(() => this.#changed.fire());
    namespaces?.onItemChanged(() => this.#changed.fire());
  }

  /**
   * Who may not list namespaces or services everywhere is served with the connected one and those that are named.
   * Without names it is all of them.
   */
  static async open(
    kube: Kube,
    namespace: string,
    mapped: readonly string[] | Promise<readonly string[]>,
    log: Logger,
  ): Promise<Catalog> {
    const [allNamespaces, allServices, names] = await Promise.all([
      kube.mayI({ verb: 'list', resource: 'namespaces' }),
      kube.mayI({ verb: 'list', resource: 'services' }),
      mapped,
    ]);
    const namespaces = allNamespaces ? kube.watch<V1Namespace>(kinds.namespace, { log }) : undefined;
    const services = kube.watch<V1Service>(kinds.service, { log, ...(allServices ? {} : { namespace }) });
    await namespaces?.ready;
    return new Catalog({ own: namespace, mapped: names, services, namespaces });
  }

  get names(): readonly string[] {
    const listed = [...(this.#namespaces?.items.values() ?? [])].map((each) => each.metadata?.name ?? '');
    const others = listed.filter((name) => name && name !== this.#own && !systemNamespaces.has(name)).sort();
    if (this.#mapped.length === 0) {
      return [this.#own, ...others];
    }
    const known = this.#namespaces ? this.#mapped.filter((name) => others.includes(name)) : this.#mapped;
    return [...new Set([this.#own, ...known])];
  }

  applyWorkloads(namespace: string, events: readonly wire.WorkloadEvent[]): void {
    const known = this.#workloads.get(namespace) ?? new Map<string, WorkloadView>();
    this.#workloads.set(namespace, known);
    for (const { type, workload } of events) {
      // A traffic-manager of 2.20 answers with the client's own namespace, whatever it was asked for.
      if (!workload || (workload.namespace !== '' && workload.namespace !== namespace)) {
        continue;
      }
      const kind = kindNames[workload.kind] ?? 'Workload';
      const key = `${kind}/${workload.name}`;
      if (type === wire.WorkloadEvent_Type.DELETED) {
        known.delete(key);
      } else {
        known.set(key, {
          kind,
          name: workload.name,
          namespace,
          state: stateNames[workload.agentState] ?? 'no-agent',
          interceptedBy: workload.interceptClients.map(({ client }) => client),
        });
      }
    }
    this.#changed.fire();
  }

  /** A new watch begins with everything there is. */
  resetWorkloads(namespace: string): void {
    this.#workloads.delete(namespace);
  }

  workload(name: string, namespace: string, kind?: string): WorkloadView | undefined {
    return [...(this.#workloads.get(namespace)?.values() ?? [])].find(
      (each) => each.name === name && (!kind || each.kind.toLowerCase() === kind.toLowerCase()),
    );
  }

  view(): NamespaceView[] {
    return this.names.map((name) => ({
      name,
      workloads: [...(this.#workloads.get(name)?.values() ?? [])].sort((a, b) => (a.name < b.name ? -1 : 1)),
      services: [...this.#services.items.values()]
        .filter((each) => each.metadata?.namespace === name)
        .map(toServiceView),
    }));
  }

  dispose(): void {
    void this.#services.dispose();
    void this.#namespaces?.dispose();
    this.#changed.dispose();
  }
}

function toServiceView(service: V1Service): ServiceView {
  return {
    name: service.metadata?.name ?? '',
    ports: (service.spec?.ports ?? []).map((port) => ({
      ...(port.name ? { name: port.name } : {}),
      port: port.port,
      targetPort: String(port.targetPort ?? port.port),
      protocol: port.protocol ?? 'TCP',
    })),
  };
}
