import { randomUUID } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter, type Interceptor, type ServiceImpl } from '@connectrpc/connect';
import { Emitter, type Event, errorCodes, type Logger, parseIp, toError } from '../../base/index.ts';
import type { UserInfo } from '../../kube/index.ts';
import { parseVersion, wire, wireVersion } from '../../protocol/index.ts';
import type { ClusterView } from '../cluster/cluster.ts';
import { type ClusterResolver, serializeRecords } from '../cluster/dns.ts';
import { badRequest, noSuchIntercept, podIsEnding } from '../errors.ts';
import { type Gate, refusalKey } from '../identity/gate.ts';
import { userKey } from '../identity/user.ts';
import type { ManagerMetrics } from '../metrics/metrics.ts';
import type { LiveConfig } from '../policy/live.ts';
import type { AgentSession, ClientSession, Store } from '../state/store.ts';
import { watchSnapshots } from '../state/watch.ts';
import type { DialWatchers } from '../tunnel/watchers.ts';
import { agentPodSnapshot, agentSnapshot, interceptSnapshot, kindNumbers, workloadDelta } from './convert.ts';
import { type Intercepts, refusedPreparation } from './intercepts.ts';
import type { LogControl } from './log-control.ts';

export interface ServiceDeps {
  readonly store: Store;
  readonly view: ClusterView;
  readonly watchers: DialWatchers;
  readonly intercepts: Intercepts;
  readonly gate: Gate;
  readonly config: Pick<LiveConfig, 'current' | 'onChanged'>;
  readonly logs: LogControl;
  readonly metrics: Pick<ManagerMetrics, 'interceptor' | 'reported'>;
  readonly resolver: ClusterResolver;
  readonly info: () => wire.ClusterInfo;
  readonly agentImage: string;
  readonly log: Logger;
}

const empty = {};
const numericA = 1;
const numericAaaa = 28;

/** The Manager service. Handlers validate, call the store, and return. */
export function managerRoutes(deps: ServiceDeps): (router: ConnectRouter) => void {
  return (router) =>
    router.service(
      wire.Manager,
      { ...sessions(deps), ...watches(deps), ...attachments(deps), ...names(deps) },
      { interceptors: [deps.metrics.interceptor, errorsToCodes(deps.log), deps.gate.interceptor] },
    );
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
    if (!info.name || !info.namespace || !info.product || info.mechanisms.length === 0) {
      throw badRequest('an agent needs name, namespace, product and a mechanism');
    }
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
    checkVersion(info.version);
    const { name: client, namespace, product } = info;
    log.info('client arrived', { client, namespace, product, ...(user ? { user: user.username } : {}) });
    return store.addClient(id, info, user);
  };
  return {
    version: () => ({ name: 'Nearfield Traffic Manager', version: wireVersion, ...gate.terms }),
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
      if (!id.startsWith('agent:') || !agent) {
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

function watches({ store, view, watchers, info, logs, config }: ServiceDeps): Impl {
  const print = (value: unknown): string =>
    JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each));
  const either: Event<void> = joined(store.onChanged, view.onChanged);
  const infoChanged = joined(view.onChanged, config.onChanged);
  /** Ends with the call, and without an error when the session ends. */
  async function* forever(signal: AbortSignal): AsyncGenerator<never> {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  async function* workloadDeltas(namespace: string, signal: AbortSignal): AsyncGenerator<wire.WorkloadEventsDelta> {
    const known = new Map<string, string>();
    let isFirst = true;
    let count = 0;
    for await (const events of watchSnapshots(
      either,
      signal,
      () => workloadDelta(store, view, namespace, known),
      () => String(count++),
    )) {
      if (isFirst || events.length > 0) {
        isFirst = false;
        yield create(wire.WorkloadEventsDeltaSchema, { events });
      }
    }
  }
  return {
    watchAgents: ({ sessionId }, { signal }) => {
      const client = store.client(sessionId);
      return watchSnapshots(store.onChanged, signal, () => agentSnapshot(store, [client.info.namespace]), print);
    },
    watchAgentsNS: ({ session, namespaces }, { signal }) => {
      store.client(session?.sessionId);
      return watchSnapshots(store.onChanged, signal, () => agentSnapshot(store, namespaces), print);
    },
    watchAgentPods: ({ sessionId }, { signal }) => {
      const client = store.client(sessionId);
      return watchSnapshots(store.onChanged, signal, () => agentPodSnapshot(store, client), print);
    },
    watchIntercepts: ({ sessionId }, { signal }) => {
      if (sessionId && !store.agents.has(sessionId)) {
        store.client(sessionId);
      }
      return watchSnapshots(store.onChanged, signal, () => interceptSnapshot(store, sessionId), print);
    },
    watchWorkloads: ({ sessionInfo, namespace }, { signal }) => {
      const client = store.client(sessionInfo?.sessionId);
      return workloadDeltas(namespace || client.info.namespace, signal);
    },
    watchClusterInfo: ({ sessionId }, { signal }) => {
      store.client(sessionId);
      return watchSnapshots(infoChanged, signal, info, print);
    },
    watchDial: ({ sessionId }, { signal }) => {
      if (!store.agents.has(sessionId)) {
        store.client(sessionId);
      }
      return watchers.watch(sessionId, signal);
    },
    watchLookupDNS: (_, { signal }) => forever(signal),
    watchLogLevel: (_, { signal }) => logs.watch(signal),
    agentLookupDNSResponse: () => empty,
  };
}

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
      const found = store.intercepts.get(`${session?.sessionId ?? ''}:${name}`) ?? store.intercepts.get(name);
      if (!found) {
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
      const workload = intercepts.find(name, namespace || client.info.namespace);
      await intercepts.ensureAgent(workload, signal);
      return { agents: store.agentsOf(workload.name, workload.namespace).map(({ info }) => info) };
    },
    getAgentConfig: ({ session, name, namespace }) => {
      const client = store.client(session?.sessionId);
      const config = intercepts.planned(intercepts.find(name, namespace || client.info.namespace));
      // JSON is YAML too (YAML 1.2 §1.3): peers read either.
      return { data: new TextEncoder().encode(`${JSON.stringify(config, undefined, 2)}\n`) };
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
