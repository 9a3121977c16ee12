import { randomUUID } from 'node:crypto';
import { Code, ConnectError, type Interceptor, type ServiceImpl } from '@connectrpc/connect';
import { type Clock, Emitter, type Event, errorCodes, type Logger, parseIp, toError } from '../../base/index.ts';
import type { UserInfo } from '../../kube/index.ts';
import { managerName, maxWatchedNamespaces, parseVersion, Workloads, wire, wireVersion } from '../../protocol/index.ts';
import { type ServiceRouter, shared } from '../../protocol/transport/index.ts';
import type { ClusterView } from '../cluster/cluster.ts';
import { type ClusterResolver, serializeRecords } from '../cluster/dns.ts';
import type { ManagedNamespaces } from '../cluster/managed.ts';
import { badRequest, noSuchIntercept, podIsEnding } from '../errors.ts';
import type { AgentGate } from '../identity/agents.ts';
import { type Gate, refusalKey } from '../identity/gate.ts';
import { userKey } from '../identity/user.ts';
import type { ManagerMetrics } from '../metrics/metrics.ts';
import type { LiveConfig } from '../policy/live.ts';
import type { AgentSession, ClientSession, Store } from '../state/store.ts';
import { gather, watchSnapshots } from '../state/watch.ts';
import type { DialWatchers } from '../tunnel/watchers.ts';
import { WorkloadBoards } from './boards.ts';
import { agentPodSnapshot, agentSnapshot, interceptSnapshot, kindNumbers } from './convert.ts';
import { deltaWatches, until } from './deltas.ts';
import { type Intercepts, refusedPreparation } from './intercepts.ts';
import type { LogControl } from './log-control.ts';

export interface ServiceDeps {
  readonly store: Store;
  readonly view: ClusterView;
  /** Default: every namespace. */
  readonly managed?: Pick<ManagedNamespaces, 'has' | 'onChanged'>;
  readonly watchers: DialWatchers;
  readonly intercepts: Intercepts;
  readonly gate: Gate;
  readonly config: Pick<LiveConfig, 'current' | 'onChanged'>;
  readonly logs: LogControl;
  readonly metrics: Pick<ManagerMetrics, 'interceptor' | 'reported'>;
  readonly resolver: ClusterResolver;
  readonly info: () => wire.ClusterInfo;
  readonly agentImage: string;
  readonly agents: Pick<AgentGate, 'interceptor'>;
  readonly clock: Clock;
  readonly log: Logger;
}

const empty = {};
const numericA = 1;
const numericAaaa = 28;
/** Longer than any name of Kubernetes, and than user and host. */
const maxNameLength = 512;
/** Sessions, agents and intercepts: somebody waits for what comes next. */
const storeGatherMs = 10;
/** The cluster: a rollout changes dozens of objects a second, and nobody waits for one of them. */
const viewGatherMs = 50;

/** The Manager service, and ours beside it. Handlers validate, call the store, and return. */
export function managerRoutes(deps: ServiceDeps): (router: ServiceRouter) => void {
  const { store, clock } = deps;
  const storeChanged = gather(store.onChanged, clock, storeGatherMs);
  const viewChanged = gather(deps.view.onChanged, clock, viewGatherMs);
  const boards = boardsOf(deps, joined(storeChanged, viewChanged));
  const watched = { ...watches(deps, { storeChanged, viewChanged, boards }), ...deltaWatches(store, storeChanged) };
  const interceptors = [
    deps.metrics.interceptor,
    errorsToCodes(deps.log),
    deps.agents.interceptor,
    deps.gate.interceptor,
  ];
  return (router) => {
    router.service(
      wire.Manager,
      { ...sessions(deps), ...watched, ...attachments(deps), ...names(deps) },
      { interceptors },
    );
    router.service(Workloads, ours(deps, boards), { interceptors });
  };
}

/** What our connector asks in one call, where the contract has one for each namespace. */
function ours({ store }: ServiceDeps, boards: WorkloadBoards): Partial<ServiceImpl<typeof Workloads>> {
  return {
    watchNamespaces: ({ session, namespaces }, { signal }) => {
      const client = store.client(session?.sessionId);
      if (namespaces.length > maxWatchedNamespaces) {
        throw badRequest(`more than ${maxWatchedNamespaces} namespaces in one call`);
      }
      return boards.watchAll(namespaces, until(signal, client.ended));
    },
  };
}

/** Our errors become gRPC codes; the reason and hint stay in the text, the cause in the log. */
function errorsToCodes(log: Logger): Interceptor {
  return (next) => async (request) => {
    try {
      return await next(request);
    } catch (thrown) {
      if (thrown instanceof ConnectError) {
        throw thrown;
      }
      const error = toError(thrown);
      log.debug('call failed', { method: request.method.name, reason: error.reason, error });
      const code = (errorCodes.indexOf(error.code) + 1) as Code;
      throw new ConnectError(error.hint ? `${error.message}. ${error.hint}` : error.message, code);
    }
  };
}

type Impl = Partial<ServiceImpl<typeof wire.Manager>>;

function sessions({ store, view, gate, config, logs, metrics, agentImage, log }: ServiceDeps): Impl {
  const checkVersion = (version: string): void => {
    if (!parseVersion(version)) {
      throw badRequest('the version is not one');
    }
  };
  const addAgent = (id: string, info: wire.AgentInfo): void => {
    const names = { name: info.name, namespace: info.namespace, product: info.product };
    if (!info.name || !info.namespace || !info.product || info.mechanisms.length === 0) {
      throw badRequest('an agent needs name, namespace, product and a mechanism');
    }
    checkNames({ ...names, version: info.version, podName: info.podName, podUid: info.podUid });
    checkVersion(info.version);
    // An agent may outlive its eviction by its grace period; nothing new may count on it.
    const pod = view.pods.items.get(`${info.namespace}/${info.podName}`);
    if (pod?.metadata?.deletionTimestamp && pod.metadata.uid === info.podUid) {
      throw podIsEnding(info.podName);
    }
    store.addAgent(id, info);
    log.info('agent arrived', { workload: info.name, namespace: info.namespace, pod: info.podName });
  };
  const addClient = (id: string, info: wire.ClientInfo, user: UserInfo | undefined): ClientSession => {
    if (!info.name || !info.namespace || !info.installId || !info.product) {
      throw badRequest('a client needs name, namespace, install id and product');
    }
    const { name, namespace, installId, product, version } = info;
    checkNames({ name, namespace, installId, product, version });
    checkVersion(version);
    log.info('client arrived', { client: name, namespace, product, ...(user ? { user: user.username } : {}) });
    return store.addClient(id, info, user);
  };
  return {
    version: () => ({ name: managerName, version: wireVersion, ...gate.terms }),
    getAgentImageFQN: () => ({ fQN: agentImage }),
    getClientConfig: () => ({ configYaml: new TextEncoder().encode(config.current.clientYaml) }),
    getTelepresenceAPI: () => ({ port: 0 }),
    arriveAsClient: (info, { values }) => {
      const { id } = addClient(randomUUID(), info, values.get(userKey));
      return { sessionId: id, managerInstallId: store.installId, installId: info.installId };
    },
    arriveAsAgent: (info) => {
      const id = `agent:${info.podUid || randomUUID()}`;
      addAgent(id, info);
      return { sessionId: id, managerInstallId: store.installId };
    },
    reconnectClient: ({ session, client, intercepts }, { values }) => {
      const id = session?.sessionId ?? '';
      if (!/^[0-9a-f-]{36}$/.test(id) || !client) {
        throw badRequest('a reconnecting client needs its session and itself');
      }
      const known = store.clients.get(id) ?? addClient(id, client, values.get(userKey));
      store.restoreIntercepts(known, intercepts);
      return empty;
    },
    reconnectAgent: ({ session, agent }) => {
      const id = session?.sessionId ?? '';
      // Its session is named after its pod: another name would be another agent's.
      if (!agent?.podUid || id !== `agent:${agent.podUid}`) {
        throw badRequest('a reconnecting agent needs its session and itself');
      }
      addAgent(id, agent);
      return empty;
    },
    remain: ({ session }) => {
      if (!store.touch(session?.sessionId ?? '')) {
        throw new ConnectError('session not found', Code.NotFound);
      }
      return empty;
    },
    depart: ({ sessionId }) => {
      store.remove(sessionId);
      return empty;
    },
    setLogLevel: (request) => {
      logs.set(request);
      return empty;
    },
    reportMetrics: (request) => {
      metrics.reported(request);
      return empty;
    },
  };
}

/** Strangers choose them, and people read them: in a log, in a status, in a terminal. */
function checkNames(names: Readonly<Record<string, string>>): void {
  for (const [what, name] of Object.entries(names)) {
    if (name.length > maxNameLength || /\p{Cc}/u.test(name)) {
      throw badRequest(`the ${what} is too long or has control characters`);
    }
  }
}

interface Watched {
  readonly storeChanged: Event<void>;
  readonly viewChanged: Event<void>;
  readonly boards: WorkloadBoards;
}

function boardsOf({ store, view, managed }: ServiceDeps, changed: Event<void>): WorkloadBoards {
  const onChanged = managed ? joined(changed, managed.onChanged) : changed;
  return new WorkloadBoards({ store, view, managed, onChanged });
}

function watches(deps: ServiceDeps, { storeChanged, viewChanged, boards }: Watched): Impl {
  const { store, watchers, info, logs, config } = deps;
  const infoChanged = joined(viewChanged, config.onChanged);
  const print = (value: unknown): string =>
    JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each));
  /** The same object until it says something else, made once for everybody. */
  let known: { readonly text: string; readonly value: wire.ClusterInfo } | undefined;
  let isStale = true;
  infoChanged(() => {
    isStale = true;
  });
  const cluster = (): wire.ClusterInfo => {
    if (known && !isStale) {
      return known.value;
    }
    isStale = false;
    const value = info();
    const text = print(value);
    known = known?.text === text ? known : { text, value: shared(value) };
    return known.value;
  };
  /** Ends with the call, and without an error when the session ends. */
  async function* forever(signal: AbortSignal): AsyncGenerator<never> {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  return {
    watchAgents: ({ sessionId }, { signal }) => {
      const { info: client, ended } = store.client(sessionId);
      const limit = until(signal, ended);
      return watchSnapshots(storeChanged, limit, () => agentSnapshot(store, [client.namespace]), listed);
    },
    watchAgentsNS: ({ session, namespaces }, { signal }) => {
      const { ended } = store.client(session?.sessionId);
      return watchSnapshots(storeChanged, until(signal, ended), () => agentSnapshot(store, namespaces), listed);
    },
    watchAgentPods: ({ sessionId }, { signal }) => {
      const client = store.client(sessionId);
      const limit = until(signal, client.ended);
      return watchSnapshots(storeChanged, limit, () => agentPodSnapshot(store, client), listed);
    },
    watchIntercepts: ({ sessionId }, { signal }) => {
      const limit = sessionId ? until(signal, store.session(sessionId).ended) : signal;
      return watchSnapshots(
        storeChanged,
        limit,
        () => interceptSnapshot(store, sessionId),
        ({ intercepts }) => intercepts,
      );
    },
    watchWorkloads: ({ sessionInfo, namespace }, { signal }) => {
      const client = store.client(sessionInfo?.sessionId);
      return boards.watch(namespace || client.info.namespace, until(signal, client.ended));
    },
    watchClusterInfo: ({ sessionId }, { signal }) => {
      return watchSnapshots(infoChanged, until(signal, store.client(sessionId).ended), cluster, (value) => value);
    },
    watchDial: ({ sessionId }, { signal }) => {
      return watchers.watch(sessionId, until(signal, store.session(sessionId).ended));
    },
    watchLookupDNS: (_, { signal }) => forever(signal),
    watchLogLevel: (_, { signal }) => logs.watch(signal),
    agentLookupDNSResponse: () => empty,
  };
}

const listed = ({ agents }: { readonly agents: readonly unknown[] }): readonly unknown[] => agents;

function joined(...events: Event<void>[]): Event<void> {
  const emitter = new Emitter<void>();
  for (const event of events) {
    event(() => emitter.fire());
  }
  return emitter.event;
}

function attachments({ store, intercepts }: ServiceDeps): Impl {
  const specOf = (request: wire.CreateInterceptRequest): wire.InterceptSpec => {
    if (!request.interceptSpec) {
      throw badRequest('the intercept is missing');
    }
    return request.interceptSpec;
  };
  return {
    getKnownWorkloadKinds: () => ({ kinds: Object.values(kindNumbers) }),
    prepareIntercept: (request, { values }) => {
      const refusal = values.get(refusalKey);
      return refusal
        ? refusedPreparation(refusal)
        : intercepts.prepare(store.client(request.session?.sessionId), specOf(request));
    },
    createIntercept: (request, { signal }) =>
      intercepts.create(store.client(request.session?.sessionId), specOf(request), signal),
    removeIntercept: ({ session, name }) => {
      intercepts.remove(store.client(session?.sessionId), name);
      return empty;
    },
    getIntercept: ({ session, name }) => {
      const client = store.client(session?.sessionId);
      const found = store.intercepts.get(`${client.id}:${name}`) ?? store.intercepts.get(name);
      // With it come the environment and a session's key.
      if (!found || found.clientSession?.sessionId !== client.id) {
        throw noSuchIntercept(name);
      }
      return found;
    },
    reviewIntercept: (request) => {
      const agent: AgentSession | undefined = store.agents.get(request.session?.sessionId ?? '');
      if (!agent) {
        throw new ConnectError('session not found', Code.NotFound);
      }
      store.review(agent, request);
      return empty;
    },
    ensureAgent: async ({ session, name, namespace }, { signal }) => {
      const client = store.client(session?.sessionId);
      const workload = await intercepts.find(name, namespace || client.info.namespace);
      await intercepts.ensureAgent(workload, signal);
      return { agents: store.agentsOf(workload.name, workload.namespace).map(({ info }) => info) };
    },
    getAgentConfig: async ({ session, name, namespace }) => {
      const client = store.client(session?.sessionId);
      const config = intercepts.planned(await intercepts.find(name, namespace || client.info.namespace));
      // JSON is YAML too (YAML 1.2 §1.3): peers read either.
      return { data: new TextEncoder().encode(`${JSON.stringify(config, undefined, 2)}\n`) };
    },
    // Only agents that stand beside the pods would need it; ours stay until they are uninstalled.
    releaseAgent: ({ session }) => {
      store.client(session?.sessionId);
      return empty;
    },
    uninstallAgents: async ({ sessionInfo, agents }) => {
      const client = store.client(sessionInfo?.sessionId);
      await intercepts.uninstall(client.info.namespace, agents);
      return empty;
    },
  };
}

function names({ store, resolver }: ServiceDeps): Impl {
  return {
    lookupDNS: async ({ session, name, type }) => {
      const client = store.client(session?.sessionId);
      const { rcode, answers } = await resolver.lookup(name, type, client.info.namespace);
      return { rCode: rcode, rrs: serializeRecords(answers) };
    },
    lookup: async ({ session, name }) => {
      const client = store.client(session?.sessionId);
      const both = await Promise.all(
        [numericA, numericAaaa].map((type) => resolver.lookup(name, type, client.info.namespace)),
      );
      const ips = both
        .flatMap(({ answers }) => answers)
        .flatMap((answer) => (answer.type === 'A' || answer.type === 'AAAA' ? [parseIp(String(answer.data))] : []))
        .filter((ip) => ip !== undefined);
      return { ips };
    },
  };
}
