import { hostname, userInfo } from 'node:os';
import { create } from '@bufbuild/protobuf';
import {
  type Clock,
  Emitter,
  type IpBytes,
  type Logger,
  retry,
  Scope,
  sleep,
  toError,
  withTimeout,
} from '../../base/index.ts';
import type { Kube } from '../../kube/index.ts';
import {
  type ClientConfig,
  errorOfConnect,
  maxWatchedNamespaces,
  parseVersion,
  productName,
  wire,
  wireVersion,
} from '../../protocol/index.ts';
import type { TunnelOrigin } from '../../protocol/transport/index.ts';
import { managerTooOld, notConnected } from '../errors.ts';
import { Inbound } from '../inbound/inbound.ts';
import { readClientConfig } from '../network/wishes.ts';
import { watchAgentPods } from './agent-pods.ts';
import { AgentSessions } from './agents.ts';
import { arrive } from './arrive.ts';
import { follow } from './follow.ts';
import { Identity } from './identity.ts';
import { type ManagerLink, openManagerLink } from './link.ts';
import { type WorkloadEvents, watchWorkloads } from './workloads.ts';

export interface SessionOptions {
  readonly kube: Kube;
  readonly namespace: string;
  readonly managerNamespace: string;
  readonly installId: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly serviceAccount?: string | undefined;
  readonly isAllowed: (host: string, port: number, protocol: 'TCP' | 'UDP') => boolean;
}

export type SessionState =
  | { readonly kind: 'connecting'; readonly step: string }
  | { readonly kind: 'connected' }
  | { readonly kind: 'reconnecting'; readonly reason: string; readonly attempt: number }
  | { readonly kind: 'ended' };

const withoutTerms = { authSupported: false, authRequired: false };
const callTimeoutMs = 15_000;
const remainPeriodMs = 5_000;
const remainTimeoutMs = 5_000;

/**
 * Our session with the traffic-manager. It outlives connections: after a break the same session id is taken up again,
 * and when the manager has forgotten it (a restart), it is told what we hold.
 */
export class ManagerSession {
  readonly clientName = `${userInfo().username}@${hostname()}`;
  readonly #options: SessionOptions;
  readonly #inbound: Inbound;
  readonly #agents: AgentSessions;
  readonly #scope = new Scope();
  readonly #controller = new AbortController();
  readonly #state = new Emitter<SessionState>();
  readonly #intercepts = new Emitter<readonly wire.InterceptInfo[]>();
  readonly #info = new Emitter<wire.ClusterInfo>();
  readonly #workloads = new Emitter<WorkloadEvents>();
  readonly onStateChanged = this.#state.event;
  readonly onInterceptsChanged = this.#intercepts.event;
  readonly onClusterInfoChanged = this.#info.event;
  readonly onWorkloadsChanged = this.#workloads.event;
  #isSealed = false;
  #link: ManagerLink | undefined;
  #linkScope: Scope | undefined;
  #sessionId = '';
  #watched = new Set<string>();
  #pods: readonly wire.AgentPodInfo[] = [];
  intercepts: readonly wire.InterceptInfo[] = [];
  clusterInfo: wire.ClusterInfo | undefined;
  version: wire.VersionInfo2 | undefined;
  agentImage = '';
  way: ManagerLink['way'];
  /** What the owner of the cluster wishes of every client. */
  clientConfig: ClientConfig = {};

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#inbound = new Inbound(options);
    this.#agents = new AgentSessions({ ...options, inbound: this.#inbound });
  }

  get sessionId(): string {
    return this.#sessionId;
  }

  /** Fires when the session is closed. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get link(): ManagerLink {
    if (!this.#link) {
      throw notConnected();
    }
    return this.#link;
  }

  get tunnels(): TunnelOrigin | undefined {
    return this.#originOf(this.#link);
  }

  #originOf({ tunnels }: Partial<ManagerLink> = {}): TunnelOrigin | undefined {
    return tunnels && this.#sessionId ? { tunnels, sessionId: this.#sessionId } : undefined;
  }

  /** The same at the agent of a pod, where we are connected to it. */
  tunnelsTo(podIp: IpBytes) {
    return this.#agents.tunnelsTo(podIp);
  }

  /** Resolves when the session stands and the first cluster information is here. */
  async open(): Promise<void> {
    await this.#connect(this.#controller.signal);
    await this.#firstInfo();
    void this.#keep();
  }

  /** Asks the other end at once whether it is there; a link that is dead ends within seconds and is made anew. */
  check(): void {
    this.#link?.check();
  }

  /** Leaves in order: the manager forgets us at once instead of after the lease. */
  async close(): Promise<void> {
    const link = this.#link;
    if (link && this.#sessionId && !this.#controller.signal.aborted) {
      await link.manager.depart({ sessionId: this.#sessionId }, { timeoutMs: 1_500 }).catch(() => undefined);
    }
    this.#controller.abort();
    this.#agents.dispose();
    await this.#linkScope?.dispose();
    link?.close();
    await this.#scope.dispose();
    this.#state.fire({ kind: 'ended' });
  }

  /** A call to the manager with a time limit; errors become ours. */
  async call<T>(
    what: string,
    work: (manager: ManagerLink['manager'], signal: AbortSignal) => Promise<T>,
    limitMs = callTimeoutMs,
    signal: AbortSignal = this.#controller.signal,
  ): Promise<T> {
    const { manager } = this.link;
    try {
      return await withTimeout(this.#options.clock, limitMs, what, (limit) => work(manager, limit), signal);
    } catch (error) {
      throw errorOfConnect(what, error);
    }
  }

  /** Watches the workloads of these namespaces, and of no others. */
  watchNamespaces(names: readonly string[]): void {
    const added = names.filter((each) => !this.#watched.has(each));
    this.#watched = new Set([...this.#watched, ...added]);
    if (this.#link && this.#linkScope) {
      this.#watchWorkloads(this.#link, this.#linkScope, added);
    }
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const { kube, managerNamespace, clock } = this.#options;
    this.#step('connecting to the traffic-manager’s pod');
    // Each time anew: it may be another manager, with other terms.
    const identity = new Identity({
      kube,
      clock,
      log: this.#options.log,
      serviceAccount: this.#options.serviceAccount,
    });
    const { authorization } = identity;
    const open = (): Promise<ManagerLink> =>
      openManagerLink({ kube, managerNamespace, clock, signal, authorization, isSealed: this.#isSealed });
    let link = await open();
    try {
      this.#step('arriving at the traffic-manager');
      this.version = await this.#ask(signal, (limit) => link.manager.version({}, { signal: limit }));
      const version = parseVersion(this.version.version);
      if (version?.major !== 2 || version.minor < 20) {
        throw managerTooOld(this.version.version);
      }
      await this.#ask(signal, () => identity.agree(this.version ?? withoutTerms));
      if (identity.isShown && !this.#isSealed) {
        // A token leaves only where nobody in the cluster's network reads it.
        this.#isSealed = true;
        link.close();
        link = await open();
      }
      await this.#arrive(link, signal);
      await link.carry(this.#sessionId);
      this.clientConfig = await this.#readConfig(link);
      this.agentImage =
        (await link.manager.getAgentImageFQN({}, { timeoutMs: callTimeoutMs }).catch(() => undefined))?.fQN ?? '';
    } catch (error) {
      link.close();
      throw errorOfConnect('connecting to the traffic-manager', error);
    }
    this.#link = link;
    this.way = link.way;
    this.#startWatches(link);
  }

  async #readConfig({ manager }: ManagerLink): Promise<ClientConfig> {
    const { log } = this.#options;
    // One that does not know the call has nothing to say.
    const answer = await manager.getClientConfig({}, { timeoutMs: callTimeoutMs }).catch(() => undefined);
    return answer ? readClientConfig(answer.configYaml, log) : {};
  }

  #ask<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return withTimeout(this.#options.clock, callTimeoutMs, 'the traffic-manager', work, signal);
  }

  async #arrive({ manager }: ManagerLink, signal: AbortSignal): Promise<void> {
    const { namespace, installId, log } = this.#options;
    const client = create(wire.ClientInfoSchema, {
      name: this.clientName,
      installId,
      product: productName,
      version: wireVersion,
      namespace,
    });
    this.#sessionId = await arrive(
      { manager, log, signal, ask: (work) => this.#ask(signal, work) },
      { client, sessionId: this.#sessionId, held: this.intercepts },
    );
  }

  async #firstInfo(): Promise<void> {
    if (!this.clusterInfo) {
      await withTimeout(
        this.#options.clock,
        callTimeoutMs,
        'the cluster information',
        () =>
          new Promise<void>((resolve) => {
            const subscription = this.onClusterInfoChanged(() => {
              void subscription.dispose();
              resolve();
            });
          }),
        this.#controller.signal,
      );
    }
    this.#state.fire({ kind: 'connected' });
  }

  /** Connects again whenever the link breaks, until the session is closed. */
  async #keep(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#controller;
    while (!signal.aborted) {
      await this.#link?.closed;
      if (signal.aborted) {
        return;
      }
      await this.#linkScope?.dispose();
      this.#link = undefined;
      log.info('the connection to the traffic-manager broke');
      this.#state.fire({ kind: 'reconnecting', reason: 'the connection to the traffic-manager broke', attempt: 1 });
      await retry(() => this.#connect(signal), {
        clock,
        signal,
        backoff: { firstMs: 200, factor: 1.6, maxMs: 5_000 },
        onRetry: (error, attempt) => {
          log.debug('reconnecting failed', { error, attempt });
          this.#state.fire({ kind: 'reconnecting', reason: toError(error).message, attempt: attempt + 2 });
        },
      }).then(
        () => this.#state.fire({ kind: 'connected' }),
        () => undefined,
      );
    }
  }

  #step(step: string): void {
    if (!this.#sessionId) {
      this.#state.fire({ kind: 'connecting', step });
    }
  }

  #startWatches(link: ManagerLink): void {
    const scope = new Scope();
    this.#linkScope = scope;
    const session = { sessionId: this.#sessionId };
    this.#follow(scope, 'cluster info', async (signal) => {
      for await (const info of link.manager.watchClusterInfo(session, { signal })) {
        this.clusterInfo = info;
        this.#info.fire(info);
      }
    });
    this.#follow(scope, 'intercepts', async (signal) => {
      for await (const { intercepts } of link.manager.watchIntercepts(session, { signal })) {
        this.intercepts = intercepts;
        this.#followAgents();
        this.#intercepts.fire(intercepts);
      }
    });
    this.#follow(scope, 'dial', (signal) =>
      this.#inbound.serve(this.#originOf(link), link.manager.watchDial(session, { signal })),
    );
    this.#follow(scope, 'agents', (signal) => this.#watchAgentPods(link, signal));
    this.#follow(scope, 'remain', async (signal) => {
      for (;;) {
        await sleep(this.#options.clock, remainPeriodMs, signal);
        await this.#remain(link);
      }
    });
    this.#watchWorkloads(link, scope, [...this.#watched]);
  }

  async #remain(link: ManagerLink): Promise<void> {
    try {
      await link.manager.remain({ session: { sessionId: this.#sessionId } }, { timeoutMs: remainTimeoutMs });
    } catch (error) {
      this.#options.log.debug('remain failed', { error });
      // A new link arrives anew, by whatever way the manager still knows.
      link.close();
    }
  }

  #watchWorkloads(link: ManagerLink, scope: Scope, names: readonly string[]): void {
    for (let at = 0; at < names.length; at += maxWatchedNamespaces) {
      const some = names.slice(at, at + maxWatchedNamespaces);
      this.#follow(scope, `workloads of ${some.length} namespaces`, (signal) =>
        watchWorkloads(link, this.#sessionId, some, {
          signal,
          onEvents: (events) => this.#workloads.fire(events),
          follow: (what, work) => this.#follow(scope, what, work),
        }),
      );
    }
  }

  /** Asks anew when there are intercepts in another namespace than before. */
  async #watchAgentPods(link: ManagerLink, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const namespaces = this.#attachedNamespaces();
      const outdated = new AbortController();
      const subscription = this.onInterceptsChanged(() => {
        if (this.#attachedNamespaces().some((each) => !namespaces.includes(each))) {
          outdated.abort();
        }
      });
      const limit = AbortSignal.any([signal, outdated.signal]);
      try {
        for await (const pods of watchAgentPods(link.manager, this.#sessionId, namespaces, limit)) {
          this.#pods = pods;
          this.#followAgents();
        }
        if (!outdated.signal.aborted) {
          return;
        }
      } catch (error) {
        if (!outdated.signal.aborted) {
          throw error;
        }
      } finally {
        void subscription.dispose();
      }
    }
  }

  #attachedNamespaces(): string[] {
    const attached = this.intercepts.map(({ spec }) => spec?.namespace ?? '').filter(Boolean);
    return [...new Set([this.#options.namespace, ...attached])].sort();
  }

  /** To every pod of what we intercept: managers up to 2.29 mark only one of them, and callers come to all. */
  #followAgents(): void {
    const ours = new Set(this.intercepts.map(({ spec }) => `${spec?.namespace}/${spec?.agent}`));
    const wanted = this.#pods.filter(
      ({ intercepted, namespace, workloadName }) => intercepted || ours.has(`${namespace}/${workloadName}`),
    );
    this.#agents.follow(wanted, this.#sessionId);
  }

  #follow(scope: Scope, what: string, work: (signal: AbortSignal) => Promise<unknown>): void {
    const { clock, log } = this.#options;
    follow({ clock, log, scope }, what, work);
  }
}
