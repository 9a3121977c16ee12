import { create } from '@bufbuild/protobuf';
import { cancelled, toError } from '../../base/index.ts';
import { type SidecarConfig, wire } from '../../protocol/index.ts';
import type { Workload } from '../cluster/cluster.ts';
import type { ManagedNamespaces } from '../cluster/managed.ts';
import { badRequest, noSuchIntercept, noSuchWorkload, notManaged, portAlreadyIntercepted } from '../errors.ts';
import { isSameUser } from '../identity/user.ts';
import { portTargets } from '../injector/targets.ts';
import type { ClientSession } from '../state/store.ts';
import { holderOf } from './claims.ts';
import { resolveSpec } from './resolve.ts';
import { type SidecarDeps, Sidecars } from './sidecars.ts';

const { NO_MECHANISM } = wire.InterceptDispositionType;

export interface InterceptDeps extends SidecarDeps {
  /** Whether a client's connection stands: it listens for dials. */
  readonly isListening: (sessionId: string) => boolean;
  /** Default: every namespace. */
  readonly managed?: Pick<ManagedNamespaces, 'ask'>;
}

/** What the life of intercepts needs: who has what, and that the workload has its agent. */
export class Intercepts {
  readonly #deps: InterceptDeps;
  readonly #sidecars: Sidecars;

  constructor(deps: InterceptDeps) {
    this.#deps = deps;
    this.#sidecars = new Sidecars(deps);
  }

  dispose(): void {
    this.#sidecars.dispose();
  }

  /** After a restart the pods themselves tell which workloads have an agent. */
  relearn(): void {
    this.#sidecars.relearn();
  }

  configOf(workload: Workload): Promise<SidecarConfig | undefined> {
    return this.#sidecars.configOf(workload);
  }

  /** What a workload has, or would get: nothing changes. */
  planned(workload: Workload): SidecarConfig {
    return this.#sidecars.planned(workload);
  }

  /** Puts an agent into the pods of a workload, and waits for the first one. */
  ensureAgent(workload: Workload, signal: AbortSignal): Promise<void> {
    return this.#sidecars.ensureAgent(workload, signal);
  }

  /** Takes the agents out again; an empty list means every workload of the namespace, no namespace all. */
  uninstall(namespace: string | undefined, names: readonly string[]): Promise<void> {
    return this.#sidecars.uninstall(namespace, names);
  }

  /** Errors: `manager.no-such-workload`, `manager.not-managed`. */
  async find(name: string, namespace: string, kind = ''): Promise<Workload> {
    if ((await this.#deps.managed?.ask(namespace)) === false) {
      throw notManaged(namespace);
    }
    const workload = this.#deps.view.workload(name, namespace, kind || undefined);
    if (!workload) {
      throw noSuchWorkload(name, namespace);
    }
    return workload;
  }

  /** A dry run: nothing in the cluster changes. A user's mistake is an answer, not a failed call. */
  async prepare(client: ClientSession, spec: wire.InterceptSpec): Promise<wire.PreparedIntercept> {
    try {
      const { complete } = await this.#resolve(client, spec);
      const { namespace, serviceUid, serviceName, servicePortName, servicePort, ...rest } = complete;
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
    const { workload, complete } = await this.#resolve(client, spec);
    await this.#sidecars.ensureAgent(workload, signal, complete);
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

  async #resolve(client: ClientSession, spec: wire.InterceptSpec) {
    const workload = await this.find(spec.agent, spec.namespace || client.info.namespace, spec.workloadKind);
    const forbidding = await this.#sidecars.forbidding(workload.namespace);
    const targets = portTargets(this.#deps.view, workload);
    const complete = resolveSpec(spec, workload, { targets, forbidding });
    this.#sidecars.check(workload, complete);
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
