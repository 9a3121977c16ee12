import { create } from '@bufbuild/protobuf';
import { type Clock, cancelled, type Logger, Scope, toError } from '../../base/index.ts';
import type { Kube } from '../../kube/index.ts';
import { filterFault, hasFilters, type SidecarConfig, wire } from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import { badRequest, noSuchIntercept, noSuchWorkload, portAlreadyIntercepted } from '../errors.ts';
import { isSameUser } from '../identity/user.ts';
import { parseConfig } from '../injector/config.ts';
import {
  annotation,
  choosePort,
  containerTargets,
  type PlanOptions,
  type PortTarget,
  planSidecar,
  portTargets,
} from '../injector/plan.ts';
import { recreatePods, waitForAgent } from '../rollout/rollout.ts';
import type { ClientSession, Store } from '../state/store.ts';
import { holderOf, portsOf } from './claims.ts';
import { replacedIn, wantedReplaced } from './replaced.ts';

/** After our start, clients take up what they held. */
const reconnectMs = 30_000;
const noSidecar = { containers: [] } as unknown as SidecarConfig;
const { NO_MECHANISM } = wire.InterceptDispositionType;
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
  readonly #scope = new Scope();
  readonly #startedMs: number;
  /** Containers whose attachment is on the way, by workload. */
  readonly #replacing = new Map<string, string>();

  constructor(deps: InterceptDeps) {
    this.#deps = deps;
    this.#startedMs = deps.clock.nowMs();
    this.#scope.own(
      deps.view.onWorkloadGone((workload) => {
        this.#configs.delete(keyOf(workload));
        this.#recreations.delete(keyOf(workload));
      }),
    );
    this.#scope.own(deps.store.onChanged(() => this.#bringBack()));
    this.#scope.own(deps.clock.after(reconnectMs, () => this.#bringBack()));
  }

  dispose(): void {
    this.#controller.abort();
    void this.#scope.dispose();
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

  /** What a workload has, or would get: nothing changes. */
  planned(workload: Workload): SidecarConfig {
    return this.#configs.get(keyOf(workload)) ?? this.#planFor(workload);
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
      const { namespace, serviceUid, serviceName, servicePortName, servicePort, ...rest } = this.#resolve(
        client,
        spec,
      ).complete;
      const { workloadKind, protocol, containerName, containerPort, podPorts } = rest;
      return create(wire.PreparedInterceptSchema, {
        ...{ namespace, serviceUid, serviceName, servicePortName, servicePort },
        ...{ workloadKind, protocol, containerName, containerPort, podPorts },
      });
    } catch (error) {
      return refusedPreparation(error);
    }
  }

  async create(client: ClientSession, spec: wire.InterceptSpec, signal: AbortSignal): Promise<wire.InterceptInfo> {
    if (!spec.name || !spec.client || !spec.agent || !spec.namespace || !spec.mechanism) {
      throw badRequest('an intercept needs name, client, agent, namespace and mechanism');
    }
    const { workload, complete } = this.#resolve(client, spec);
    if (complete.replace) {
      this.#replacing.set(keyOf(workload), complete.containerName);
    }
    try {
      await this.ensureAgent(workload, signal, complete.replace ? complete.containerName : undefined);
    } finally {
      this.#replacing.delete(keyOf(workload));
    }
    // Half a minute may have passed: the client may be gone, and somebody else may have been quicker.
    this.#deps.store.client(client.id);
    if (signal.aborted) {
      throw cancelled(signal);
    }
    this.#checkFree(client, complete);
    const agents = this.#deps.store.agentsOf(workload.name, workload.namespace);
    const isKnown = agents.every(({ info }) => info.mechanisms.some(({ name }) => name === spec.mechanism));
    return this.#deps.store.addIntercept(
      client,
      complete,
      // An agent that does not know filters would divert everything.
      isKnown ? undefined : { disposition: NO_MECHANISM, message: `No agent has mechanism ${spec.mechanism}` },
    );
  }

  remove(client: ClientSession, name: string): void {
    if (!this.#deps.store.removeIntercept(`${client.id}:${name}`)) {
      throw noSuchIntercept(name);
    }
  }

  /** Puts an agent into the pods of a workload, in the place of a container too, and waits for the first one. */
  async ensureAgent(workload: Workload, signal: AbortSignal, replaced?: string): Promise<void> {
    const key = keyOf(workload);
    const config = this.#planFor(workload, replaced);
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

  #planFor(workload: Workload, replaced?: string): SidecarConfig {
    const names = wantedReplaced(this.#deps.store.intercepts.values(), workload);
    if (replaced !== undefined) {
      names.add(replaced);
    }
    return planSidecar(this.#deps.view, workload, this.#deps.plan, names);
  }

  /**
   * Containers that nobody replaces any more come back. After our own start their clients need a moment to say that
   * they still do.
   */
  #bringBack(): void {
    if (this.#deps.clock.nowMs() - this.#startedMs < reconnectMs) {
      return;
    }
    for (const workload of this.#deps.view.workloads()) {
      const key = keyOf(workload);
      const away = replacedIn(this.#configs.get(key) ?? noSidecar);
      if (away.length > 0 && !this.#replacing.has(key)) {
        const wanted = wantedReplaced(this.#deps.store.intercepts.values(), workload);
        if (away.some((name) => !wanted.has(name))) {
          const config = this.#planFor(workload);
          this.#configs.set(key, config);
          this.#recreate(workload, config).catch(() => undefined);
        }
      }
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
    if (spec.replace && (spec.portIdentifier === '' || spec.portIdentifier === 'all')) {
      return this.#resolveContainer(client, spec, workload);
    }
    const options = { isReplaced: spec.replace };
    const targets = portTargets(this.#deps.view, workload);
    const target = choosePort(targets, workload.name, spec.portIdentifier, spec.serviceName, options);
    planSidecar(this.#deps.view, workload, this.#deps.plan);
    const complete = {
      ...spec,
      namespace: workload.namespace,
      workloadKind: workload.kind,
      serviceUid: target.serviceUid,
      serviceName: target.serviceName,
      servicePortName: target.servicePort.name ?? '',
      servicePort: target.servicePort.port,
      protocol: target.protocol,
      // Whose environment it is may be said; the port's container is what is meant otherwise.
      containerName: spec.containerName || target.container.name,
      containerPort: target.containerPort,
      podPorts: spec.podPorts.map((text) => resolvePodPort(targets, workload.name, text, options)),
    };
    checkContainer(workload, complete.containerName);
    const ports = portsOf(complete);
    if (new Set(ports).size < ports.length) {
      throw badRequest('the same port is named twice');
    }
    this.#checkFree(client, complete);
    return { workload, complete };
  }

  /** A container as a whole, with every port that it has. */
  #resolveContainer(client: ClientSession, spec: wire.InterceptSpec, workload: Workload) {
    const containers = workload.object.spec?.template?.spec?.containers ?? [];
    const [only, another] = containers.filter(({ name }) => !spec.containerName || name === spec.containerName);
    if (!only) {
      throw badRequest(`${workload.name} has no container ${spec.containerName}`);
    }
    if (another) {
      throw badRequest(
        `${workload.name} has several containers: ${containers.map(({ name }) => name).join(', ')}. Name one of them`,
      );
    }
    const ports = containerTargets(portTargets(this.#deps.view, workload), only);
    const podPorts = ports.map(
      ({ containerPort, protocol }) => `${containerPort}:${containerPort}${protocol === 'UDP' ? '/UDP' : ''}`,
    );
    const complete = {
      ...spec,
      namespace: workload.namespace,
      workloadKind: workload.kind,
      protocol: '',
      containerName: only.name,
      containerPort: 0,
      podPorts: [...new Set(podPorts)],
    };
    planSidecar(this.#deps.view, workload, this.#deps.plan, new Set([only.name]));
    this.#checkFree(client, complete);
    return { workload, complete };
  }

  /** A person whose connector was killed comes back before the lease is over: what they held is theirs to take up. */
  #isAbandonedBy(client: ClientSession, holder: wire.InterceptInfo): boolean {
    const previous = holder.clientSession?.sessionId ?? '';
    const before = this.#deps.store.clients.get(previous);
    const isTheirs = holder.spec?.client === client.info.name && isSameUser(before?.user, client.user);
    return isTheirs && previous !== client.id && !this.#deps.isListening(previous);
  }

  #checkFree(client: ClientSession, spec: wire.InterceptSpec): void {
    const { store } = this.#deps;
    const others = [...store.intercepts.values()].filter(({ id }) => id !== `${client.id}:${spec.name}`);
    const found = holderOf(others, spec);
    if (!found) {
      return;
    }
    const { holder, port } = found;
    if (!this.#isAbandonedBy(client, holder)) {
      throw portAlreadyIntercepted(port, holder.spec?.client ?? '', holder.spec?.name ?? '');
    }
    store.removeIntercept(holder.id);
    this.#checkFree(client, spec);
  }
}

/** The sentence is all that a client shows. */
export function refusedPreparation(error: unknown): wire.PreparedIntercept {
  const { message, hint } = toError(error);
  return create(wire.PreparedInterceptSchema, { error: hint ? `${message}. ${hint}` : message, errorCategory: 1 });
}

/** Whoever asks for a part of the traffic must never get all of it instead. */
function checkSupported(spec: wire.InterceptSpec): void {
  const isFiltered = hasFilters(spec);
  if (isFiltered !== (spec.mechanism === 'http') && spec.mechanism !== '') {
    throw badRequest(
      isFiltered
        ? 'filters belong to the mechanism http'
        : `the mechanism ${spec.mechanism} is not known without filters`,
    );
  }
  const fault = isFiltered ? filterFault(spec) : undefined;
  if (fault) {
    throw badRequest(fault);
  }
}

function checkContainer(workload: Workload, name: string): void {
  const containers = workload.object.spec?.template?.spec?.containers ?? [];
  if (!containers.some((each) => each.name === name)) {
    throw badRequest(`${workload.name} has no container ${name}`);
  }
}

/** `http:3000` becomes `8080:3000`, so that what it means does not depend on the cluster's next change. */
function resolvePodPort(
  targets: readonly PortTarget[],
  workload: string,
  text: string,
  options: { readonly isReplaced: boolean },
): string {
  const match = /^([\w-]+)(?::(\d{1,5}))?(?:\/(TCP|UDP))?$/i.exec(text);
  if (!match) {
    throw badRequest(`${text.slice(0, 60)} is no further port`);
  }
  const [, remote = '', local, protocol = 'TCP'] = match;
  const { containerPort, protocol: found } = choosePort(targets, workload, `${remote}/${protocol}`, '', options);
  return `${containerPort}:${local ?? containerPort}${found === 'UDP' ? '/UDP' : ''}`;
}

const keyOf = ({ kind, namespace, name }: Workload): string => `${kind}/${namespace}/${name}`;
