import { type Clock, type Disposable, type Logger, Scope, toError } from '../../base/index.ts';
import { type Kube, kinds, type V1Namespace } from '../../kube/index.ts';
import type { SidecarConfig, wire } from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import { injectionOff } from '../errors.ts';
import { annotation, type Wishes, wishesOf } from '../injector/annotations.ts';
import { parseConfig } from '../injector/config.ts';
import { type Demand, type PlanOptions, planSidecar } from '../injector/plan.ts';
import { forbiddingLevel, redirectedBy, redirectedKeys } from '../injector/redirect.ts';
import { portTargets } from '../injector/targets.ts';
import type { InjectPolicy } from '../options.ts';
import { untilRecreated, waitForAgent } from '../rollout/arrival.ts';
import { recreateWithAgent } from '../rollout/missed.ts';
import { recreatePods } from '../rollout/rollout.ts';
import type { Store } from '../state/store.ts';
import { isHolding } from './claims.ts';
import { replacedIn, wantedReplaced } from './replaced.ts';

/** After our start, clients take up what they held. */
const reconnectMs = 30_000;
/** A roll-out that was asked for is not asked for again within this time. */
const recreationMs = 60_000;

export interface SidecarDeps {
  readonly kube: Kube;
  readonly view: ClusterView;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly plan: PlanOptions;
  /** Default: when somebody attaches. */
  readonly policy?: InjectPolicy;
}

/** Which workloads have an agent, with what configuration, and how they get and lose it. */
export class Sidecars implements Disposable {
  readonly #deps: SidecarDeps;
  /** By workload: the injector patches only pods of these. */
  readonly #configs = new Map<string, SidecarConfig>();
  /** Those with which an agent has come: what a failure falls back to. */
  readonly #proven = new Map<string, SidecarConfig>();
  /** Re-creations under way by workload: requests that come together share one. */
  readonly #recreations = new Map<
    string,
    { readonly text: string; readonly sinceMs: number; readonly promise: Promise<void> }
  >();
  /** What attachments that are on the way need, by workload. */
  readonly #coming = new Map<string, Set<wire.InterceptSpec>>();
  /** The Pod Security levels that forbid to redirect, by namespace, as last seen. */
  readonly #forbidding = new Map<string, string | undefined>();
  readonly #warned = new Set<string>();
  readonly #controller = new AbortController();
  readonly #scope = new Scope();
  readonly #startedMs: number;

  constructor(deps: SidecarDeps) {
    this.#deps = deps;
    this.#startedMs = deps.clock.nowMs();
    this.#scope.own(
      deps.view.onWorkloadGone((workload) => {
        for (const map of [this.#configs, this.#proven, this.#recreations]) {
          map.delete(keyOf(workload));
        }
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
        this.#proven.set(keyOf(workload), config);
      }
    }
  }

  /** What a new pod of a workload gets; undefined: no agent. */
  async configOf(workload: Workload): Promise<SidecarConfig | undefined> {
    const wishes = this.#wishesOf(workload);
    const isEnabled = wishes.inject === 'enabled';
    if (wishes.inject === 'disabled' || wishes.isManual || !this.#mayInject(wishes)) {
      return undefined;
    }
    const present = this.#configs.get(keyOf(workload));
    if (!present && isEnabled) {
      await this.forbidding(workload.namespace);
      return this.#planFor(workload);
    }
    return present;
  }

  /** What a workload has, or would get: nothing changes. */
  planned(workload: Workload): SidecarConfig {
    return this.#configs.get(keyOf(workload)) ?? this.#planFor(workload);
  }

  /** The Pod Security level of a namespace that forbids to redirect ports. Where it cannot be seen, it may be tried. */
  async forbidding(namespace: string): Promise<string | undefined> {
    const found = await this.#deps.kube.get<V1Namespace>(kinds.namespace, namespace).catch((error: unknown) => {
      this.#deps.log.debug('the namespace cannot be looked at', { namespace, error });
      return undefined;
    });
    const level = forbiddingLevel(found);
    this.#forbidding.set(namespace, level);
    return level;
  }

  /** Whether everything that an attachment needs can be planned. Errors: those of `planSidecar`, `manager.injection-off`. */
  check(workload: Workload, spec: wire.InterceptSpec): void {
    const wishes = this.#wishesOf(workload);
    if (!wishes.isManual && !this.#mayInject(wishes)) {
      throw injectionOff(workload.name, this.#deps.policy ?? 'OnDemand');
    }
    this.#planFor(workload, [spec]);
  }

  /**
   * Puts an agent into the pods of a workload, with what an attachment needs, and waits for the first one. What fails
   * is undone.
   */
  async ensureAgent(workload: Workload, signal: AbortSignal, spec?: wire.InterceptSpec): Promise<void> {
    if (this.#wishesOf(workload).isManual) {
      await waitForAgent(this.#deps, workload, undefined, signal);
      return;
    }
    await this.forbidding(workload.namespace);
    const key = keyOf(workload);
    const coming = this.#coming.get(key) ?? new Set();
    this.#coming.set(key, coming);
    if (spec) {
      coming.add(spec);
    }
    try {
      await this.#ensure(workload, signal, spec);
    } finally {
      if (spec) {
        coming.delete(spec);
      }
    }
  }

  async #ensure(workload: Workload, signal: AbortSignal, spec: wire.InterceptSpec | undefined): Promise<void> {
    const key = keyOf(workload);
    if (!this.#mayInject(this.#wishesOf(workload))) {
      throw injectionOff(workload.name, this.#deps.policy ?? 'OnDemand');
    }
    const config = this.#planFor(workload);
    this.#configs.set(key, config);
    // The pods that are left over after the first agent's arrival are replaced in the background.
    const recreation = this.#recreate(workload, config);
    try {
      await Promise.race([
        waitForAgent(this.#deps, workload, () => this.#wantedNow(key, config), signal),
        recreation.then(() => new Promise<never>(() => undefined)),
      ]);
      this.#proven.set(key, config);
      if (spec?.replace) {
        // The container must not run beside whoever replaces it.
        await untilRecreated(this.#deps, workload, config, signal);
      }
    } catch (error) {
      // Who gives up waiting does not stop the roll-out; others may wait for the same agent.
      if (toError(error).code !== 'cancelled' && this.#configs.get(key) === config) {
        this.#fallBack(workload);
      }
      throw error;
    }
  }

  /** What a later attachment made of a configuration, if that has all of it too. */
  #wantedNow(key: string, config: SidecarConfig): SidecarConfig {
    const present = this.#configs.get(key);
    return present && hasAllOf(present, config) ? present : config;
  }

  /** Pods that cannot be what was asked for become again what they were. */
  #fallBack(workload: Workload): void {
    const key = keyOf(workload);
    const proven = this.#proven.get(key);
    this.#recreations.delete(key);
    if (proven) {
      this.#configs.set(key, proven);
    } else {
      this.#configs.delete(key);
    }
    this.#recreate(workload, proven).catch(() => undefined);
  }

  #mayInject({ inject }: Wishes): boolean {
    const { policy = 'OnDemand' } = this.#deps;
    return policy === 'OnDemand' || (policy === 'WhenEnabled' && inject === 'enabled');
  }

  #wishesOf(workload: Workload): Wishes {
    const wishes = wishesOf(workload);
    if (wishes.legacy.length > 0 && !this.#warned.has(keyOf(workload))) {
      this.#warned.add(keyOf(workload));
      this.#deps.log.warn('annotations have a prefix that is out of use; write telepresence.io/', {
        workload: workload.name,
        namespace: workload.namespace,
        annotations: wishes.legacy,
      });
    }
    return wishes;
  }

  /** With what those who are attached, or about to be, need. What was redirected stays so while the agent is there. */
  #planFor(workload: Workload, more: readonly wire.InterceptSpec[] = []): SidecarConfig {
    const { view, store, plan } = this.#deps;
    const key = keyOf(workload);
    const held = [...store.intercepts.values()].filter((each) => isHolding(each, workload)).map(({ spec }) => spec);
    const specs = [...held, ...(this.#coming.get(key) ?? []), ...more].filter((spec) => spec !== undefined);
    const targets = portTargets(view, workload);
    const demand: Demand = {
      replaced: wantedReplaced(specs),
      redirected: new Set([
        ...redirectedKeys(this.#configs.get(key)),
        ...specs.filter(({ replace }) => !replace).flatMap((spec) => redirectedBy(spec, targets)),
      ]),
      mayRedirect: this.#forbidding.get(workload.namespace) === undefined,
    };
    return planSidecar(view, workload, plan, demand);
  }

  /**
   * Containers that nobody replaces any more come back. After our own start their clients need a moment to say that
   * they still do.
   */
  #bringBack(): void {
    if (this.#deps.clock.nowMs() - this.#startedMs < reconnectMs) {
      return;
    }
    // At every change of a session: so only what has an agent is looked at, and not a thousand workloads.
    for (const [key, known] of this.#configs) {
      const away = replacedIn(known);
      const workload = away.length > 0 ? this.#workloadOf(key) : undefined;
      const config = workload && this.#planAgain(workload);
      if (config && away.some((name) => !replacedIn(config).includes(name))) {
        this.#configs.set(keyOf(workload), config);
        this.#proven.set(keyOf(workload), config);
        this.#recreate(workload, config).catch(() => undefined);
      }
    }
  }

  #workloadOf(key: string): Workload | undefined {
    const [kind, namespace = '', name = ''] = key.split('/');
    return this.#deps.view.workload(name, namespace, kind);
  }

  /** Nobody waits for it: a workload that cannot have an agent any more keeps what it has. */
  #planAgain(workload: Workload): SidecarConfig | undefined {
    try {
      return this.#planFor(workload);
    } catch (error) {
      this.#deps.log.debug('a container cannot come back', { workload: workload.name, error });
      return undefined;
    }
  }

  #recreate(workload: Workload, config: SidecarConfig | undefined): Promise<void> {
    const key = keyOf(workload);
    const text = JSON.stringify(config) ?? '';
    const nowMs = this.#deps.clock.nowMs();
    const running = this.#recreations.get(key);
    if (running?.text === text && nowMs - running.sinceMs < recreationMs) {
      return running.promise;
    }
    const { signal } = this.#controller;
    const isWanted = (): boolean => JSON.stringify(this.#configs.get(key)) === text;
    const promise = config
      ? recreateWithAgent(this.#deps, { workload, config, isWanted }, signal)
      : recreatePods(this.#deps, workload, undefined, signal);
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
      const key = keyOf(workload);
      const isMeant = names.length === 0 || names.includes(workload.name);
      const hasAgent = this.#deps.view.podsOf(workload).some((pod) => pod.metadata?.annotations?.[annotation.config]);
      if (isMeant && (this.#configs.delete(key) || hasAgent)) {
        this.#proven.delete(key);
        this.#recreations.delete(key);
        leaving.push(recreatePods(this.#deps, workload, undefined, this.#controller.signal));
      }
    }
    // One that cannot be taken out is no reason to leave the others half-way.
    const failed = (await Promise.allSettled(leaving)).find((each) => each.status === 'rejected');
    if (failed) {
      throw failed.reason;
    }
  }
}

const keyOf = ({ kind, namespace, name }: Workload): string => `${kind}/${namespace}/${name}`;

/** Whether a configuration takes away and redirects whatever the other one does. */
const hasAllOf = (config: SidecarConfig, other: SidecarConfig): boolean =>
  isSubset(redirectedKeys(other), redirectedKeys(config)) && isSubset(replacedIn(other), replacedIn(config));

const isSubset = (part: readonly string[], whole: readonly string[]): boolean =>
  part.every((each) => whole.includes(each));
