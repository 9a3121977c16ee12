import { create } from '@bufbuild/protobuf';
import { type Clock, cancelled, type Disposable, type Logger, toError } from '../../base/index.ts';
import type { Kube } from '../../kube/index.ts';
import { type SidecarConfig, wire } from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import { badRequest, noSuchIntercept, noSuchWorkload, portAlreadyIntercepted, unsupported } from '../errors.ts';
import { parseConfig } from '../injector/config.ts';
import { annotation, choosePort, type PlanOptions, planSidecar, portTargets } from '../injector/plan.ts';
import { recreatePods, waitForAgent } from '../rollout/rollout.ts';
import type { ClientSession, Store } from '../state/store.ts';

/** A roll-out that was asked for is not asked for again within this time. */
const recreationMs = 60_000;

export interface InterceptDeps {
  readonly kube: Kube;
  readonly view: ClusterView;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly plan: PlanOptions;
  /** Whether a client's connection stands: it listens for dials. */
  readonly isListening: (sessionId: string) => boolean;
}

/** What the life of intercepts needs: which workloads have an agent, and how they get one. */
export class Intercepts {
  readonly #deps: InterceptDeps;
  /** Sidecar configurations by workload: the injector patches only pods of these. */
  readonly #configs = new Map<string, SidecarConfig>();
  /** Re-creations under way by workload: requests that come together share one. */
  readonly #recreations = new Map<
    string,
    { readonly text: string; readonly sinceMs: number; promise: Promise<void> }
  >();
  readonly #controller = new AbortController();
  readonly #subscription: Disposable;

  constructor(deps: InterceptDeps) {
    this.#deps = deps;
    this.#subscription = deps.view.onWorkloadGone((workload) => {
      this.#configs.delete(keyOf(workload));
      this.#recreations.delete(keyOf(workload));
    });
  }

  dispose(): void {
    this.#controller.abort();
    void this.#subscription.dispose();
  }

  /** After a restart the pods themselves tell which workloads have an agent. */
  relearn(): void {
    for (const pod of this.#deps.view.pods.items.values()) {
      const text = pod.metadata?.annotations?.[annotation.config];
      const workload = text && this.#deps.view.workloadOfPod(pod, pod.metadata?.namespace ?? '');
      const config = text ? parseConfig(text) : undefined;
      if (workload && config) {
        this.#configs.set(keyOf(workload), config);
      }
    }
  }

  configOf(workload: Workload): SidecarConfig | undefined {
    const inject = workload.object.spec?.template?.metadata?.annotations?.[annotation.inject];
    if (inject === 'disabled' || inject === 'false') {
      return undefined;
    }
    return (
      this.#configs.get(keyOf(workload)) ??
      (inject === 'enabled' ? planSidecar(this.#deps.view, workload, this.#deps.plan) : undefined)
    );
  }

  find(name: string, namespace: string, kind = ''): Workload {
    const workload = this.#deps.view.workload(name, namespace, kind || undefined);
    if (!workload) {
      throw noSuchWorkload(name, namespace);
    }
    return workload;
  }

  /** A dry run: nothing in the cluster changes. A user's mistake is an answer, not a failed call. */
  prepare(client: ClientSession, spec: wire.InterceptSpec): wire.PreparedIntercept {
    try {
      const { workload, target } = this.#resolve(client, spec);
      return create(wire.PreparedInterceptSchema, {
        namespace: workload.namespace,
        serviceUid: target.serviceUid,
        serviceName: target.serviceName,
        servicePortName: target.servicePort.name ?? '',
        servicePort: target.servicePort.port,
        workloadKind: workload.kind,
        protocol: target.protocol,
        containerName: target.container.name,
        containerPort: target.containerPort,
      });
    } catch (error) {
      const { message, hint } = toError(error);
      return create(wire.PreparedInterceptSchema, { error: hint ? `${message}. ${hint}` : message, errorCategory: 1 });
    }
  }

  async create(client: ClientSession, spec: wire.InterceptSpec, signal: AbortSignal): Promise<wire.InterceptInfo> {
    if (!spec.name || !spec.client || !spec.agent || !spec.namespace || !spec.mechanism) {
      throw badRequest('an intercept needs name, client, agent, namespace and mechanism');
    }
    const { workload, target } = this.#resolve(client, spec);
    await this.ensureAgent(workload, signal);
    // Half a minute may have passed: the client may be gone, and somebody else may have been quicker.
    this.#deps.store.client(client.id);
    if (signal.aborted) {
      throw cancelled(signal);
    }
    this.#checkFree(client, spec, workload, target.containerPort);
    const complete = {
      ...spec,
      workloadKind: workload.kind,
      serviceUid: target.serviceUid,
      serviceName: target.serviceName,
      servicePortName: target.servicePort.name ?? '',
      servicePort: target.servicePort.port,
      protocol: target.protocol,
      containerName: target.container.name,
      containerPort: target.containerPort,
    };
    return this.#deps.store.addIntercept(client, complete);
  }

  remove(client: ClientSession, name: string): void {
    if (!this.#deps.store.removeIntercept(`${client.id}:${name}`)) {
      throw noSuchIntercept(name);
    }
  }

  /** Puts an agent into the pods of a workload and waits for the first one. */
  async ensureAgent(workload: Workload, signal: AbortSignal): Promise<void> {
    const config = planSidecar(this.#deps.view, workload, this.#deps.plan);
    const key = keyOf(workload);
    const before = this.#configs.get(key);
    this.#configs.set(key, config);
    // The pods that are left over after the first agent's arrival are replaced in the background.
    const recreation = this.#recreate(workload, config);
    try {
      await Promise.race([
        waitForAgent(this.#deps, workload, signal),
        recreation.then(() => new Promise<never>(() => undefined)),
      ]);
    } catch (error) {
      // Who gives up waiting does not stop the roll-out; others may wait for the same agent.
      if (toError(error).code !== 'cancelled') {
        this.#recreations.delete(key);
        if (before) {
          this.#configs.set(key, before);
        } else {
          this.#configs.delete(key);
        }
      }
      throw error;
    }
  }

  #recreate(workload: Workload, config: SidecarConfig): Promise<void> {
    const key = keyOf(workload);
    const text = JSON.stringify(config);
    const nowMs = this.#deps.clock.nowMs();
    const running = this.#recreations.get(key);
    if (running?.text === text && nowMs - running.sinceMs < recreationMs) {
      return running.promise;
    }
    const promise = recreatePods(this.#deps, workload, config, this.#controller.signal);
    this.#recreations.set(key, { text, sinceMs: nowMs, promise });
    promise.catch((error: unknown) => {
      this.#recreations.delete(key);
      this.#deps.log.warn('re-creating pods failed', { workload: workload.name, error });
    });
    return promise;
  }

  /** Takes the agents out again; an empty list means every workload of the namespace, no namespace all. */
  async uninstall(namespace: string | undefined, names: readonly string[]): Promise<void> {
    const leaving: Promise<void>[] = [];
    for (const workload of this.#deps.view.workloads(namespace)) {
      const isMeant = names.length === 0 || names.includes(workload.name);
      const hasAgent = this.#deps.view.podsOf(workload).some((pod) => pod.metadata?.annotations?.[annotation.config]);
      if (isMeant && (this.#configs.delete(keyOf(workload)) || hasAgent)) {
        this.#recreations.delete(keyOf(workload));
        leaving.push(recreatePods(this.#deps, workload, undefined, this.#controller.signal));
      }
    }
    // One that cannot be taken out is no reason to leave the others half-way.
    const failed = (await Promise.allSettled(leaving)).find((each) => each.status === 'rejected');
    if (failed) {
      throw failed.reason;
    }
  }

  #resolve(client: ClientSession, spec: wire.InterceptSpec) {
    checkSupported(spec);
    const workload = this.find(spec.agent, spec.namespace || client.info.namespace, spec.workloadKind);
    const target = choosePort(
      portTargets(this.#deps.view, workload),
      workload.name,
      spec.portIdentifier,
      spec.serviceName,
    );
    planSidecar(this.#deps.view, workload, this.#deps.plan);
    this.#checkFree(client, spec, workload, target.containerPort);
    return { workload, target };
  }

  /** A person whose connector was killed comes back before the lease is over: what they held is theirs to take up. */
  #isAbandonedBy(client: ClientSession, holder: wire.InterceptInfo): boolean {
    const previous = holder.clientSession?.sessionId ?? '';
    return holder.spec?.client === client.info.name && previous !== client.id && !this.#deps.isListening(previous);
  }

  #checkFree(client: ClientSession, spec: wire.InterceptSpec, workload: Workload, containerPort: number): void {
    const holder = this.#deps.store.holderOf(workload.name, workload.namespace, containerPort);
    if (holder && holder.id !== `${client.id}:${spec.name}` && this.#isAbandonedBy(client, holder)) {
      this.#deps.store.removeIntercept(holder.id);
    } else if (holder && holder.id !== `${client.id}:${spec.name}`) {
      throw portAlreadyIntercepted(containerPort, holder.spec?.client ?? '', holder.spec?.name ?? '');
    }
  }
}

/** Whoever asks for a part of the traffic must never get all of it instead. */
function checkSupported(spec: wire.InterceptSpec): void {
  const filtered = Object.keys(spec.headerFilters).length > 0 || spec.pathFilters.length > 0;
  if (filtered || (spec.mechanism !== '' && spec.mechanism !== 'tcp')) {
    throw unsupported('an intercept with filters');
  }
  if (spec.wiretap) {
    throw unsupported('a wiretap');
  }
  if (spec.replace || spec.noDefaultPort) {
    throw unsupported('replacing a container');
  }
  if (spec.podPorts.length > 0) {
    throw unsupported('an intercept of several ports');
  }
}

const keyOf = ({ kind, namespace, name }: Workload): string => `${kind}/${namespace}/${name}`;
