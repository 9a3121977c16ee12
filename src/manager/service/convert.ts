import { create } from '@bufbuild/protobuf';
import { parseIp } from '../../base/index.ts';
import { wire } from '../../protocol/index.ts';
import type { AgentSession, ClientSession, Store } from '../state/store.ts';
import type { Items } from '../state/watch.ts';

const { ACTIVE, WAITING, AGENT_ERROR, REMOVED, NO_AGENT } = wire.InterceptDispositionType;

export const kindNumbers = {
  Deployment: wire.WorkloadInfo_Kind.DEPLOYMENT,
  ReplicaSet: wire.WorkloadInfo_Kind.REPLICASET,
  StatefulSet: wire.WorkloadInfo_Kind.STATEFULSET,
} as const;

const byId = (a: { readonly id: string }, b: { readonly id: string }): number => (a.id < b.id ? -1 : 1);

export function agentSnapshot(store: Store, namespaces: readonly string[]): wire.AgentInfoSnapshot {
  const agents = inNamespaces(store, new Set(namespaces)).map(({ info }) => info);
  return create(wire.AgentInfoSnapshotSchema, { agents });
}

export function agentItems(store: Store, namespaces: readonly string[]): Items<wire.AgentInfo> {
  return new Map(
    inNamespaces(store, new Set(namespaces)).map(({ id, info }) => [id, { version: info, value: () => info }]),
  );
}

/** The agents that a client may connect to: where it is, in these namespaces, and of what it intercepts elsewhere. */
export function agentPodItems(
  store: Store,
  client: ClientSession,
  namespaces: readonly string[] = [],
): Items<wire.AgentPodInfo> {
  const mine = [...store.intercepts.values()].filter((intercept) => intercept.clientSession?.sessionId === client.id);
  const attached = new Set(mine.map(({ spec }) => `${spec?.namespace}/${spec?.agent}`));
  const near = new Set([client.info.namespace, ...namespaces, ...mine.map(({ spec }) => spec?.namespace ?? '')]);
  return new Map(
    inNamespaces(store, near).map(({ id, info }) => {
      const intercepted = attached.has(`${info.namespace}/${info.name}`);
      const version = `${info.podIp} ${info.apiPort} ${info.version} ${intercepted}`;
      return [id, { version, value: () => toAgentPod(info, intercepted) }];
    }),
  );
}

export function agentPodSnapshot(store: Store, client: ClientSession): wire.AgentPodInfoSnapshot {
  const agents = [...agentPodItems(store, client).values()].map(({ value }) => value());
  return create(wire.AgentPodInfoSnapshotSchema, { agents });
}

const inNamespaces = (store: Store, namespaces: ReadonlySet<string>): AgentSession[] => {
  const agents = [...namespaces].flatMap((namespace) => store.agentsIn(namespace));
  return namespaces.size > 1 ? agents.sort(byId) : agents;
};

/** Made once for all who watch: an object that is the same says that nothing has changed. */
const agentPods = {
  attached: new WeakMap<wire.AgentInfo, wire.AgentPodInfo>(),
  free: new WeakMap<wire.AgentInfo, wire.AgentPodInfo>(),
};

function toAgentPod(info: wire.AgentInfo, intercepted: boolean): wire.AgentPodInfo {
  return madeOnce(intercepted ? agentPods.attached : agentPods.free, info, () =>
    create(wire.AgentPodInfoSchema, {
      podName: info.podName,
      namespace: info.namespace,
      podIp: parseIp(info.podIp) ?? new Uint8Array(0),
      apiPort: info.apiPort,
      intercepted,
      workloadName: info.name,
      podId: info.podUid,
      version: info.version,
    }),
  );
}

function madeOnce<K extends object, T>(made: WeakMap<K, T>, from: K, make: () => T): T {
  const known = made.get(from);
  if (known !== undefined) {
    return known;
  }
  const value = make();
  made.set(from, value);
  return value;
}

/**
 * A client sees its own intercepts, an agent those of its workload, and no session everything. Environments and mounts
 * are for whoever intercepts alone; a session's id is a key, which only the agent needs that listens for it: without a
 * session there is none, and the intercept's id, which holds it, is its name.
 */
export function interceptSnapshot(store: Store, sessionId: string): wire.InterceptInfoSnapshot {
  const { intercepts, shown } = interceptsFor(store, sessionId);
  return create(wire.InterceptInfoSnapshotSchema, { intercepts: intercepts.map(shown) });
}

/** By the intercept's id, as it is shown: an id that is hidden is no key either. */
export function interceptItems(store: Store, sessionId: string): Items<wire.InterceptInfo> {
  const { intercepts, shown } = interceptsFor(store, sessionId);
  return new Map(
    intercepts.map((each, index) => [
      sessionId === '' ? `${each.spec?.name ?? ''} ${index}` : each.id,
      { version: each, value: () => shown(each) },
    ]),
  );
}

function interceptsFor(store: Store, sessionId: string) {
  const agent = store.agents.get(sessionId);
  const intercepts = [...store.intercepts.values()]
    .filter(({ spec, clientSession, disposition }) => {
      if (agent) {
        const isRelevant = [WAITING, ACTIVE, AGENT_ERROR, REMOVED, NO_AGENT].includes(disposition);
        return isRelevant && spec?.agent === agent.info.name && spec.namespace === agent.info.namespace;
      }
      return sessionId === '' || clientSession?.sessionId === sessionId;
    })
    .sort(byId);
  const isOwner = !agent && sessionId !== '';
  const shown = (each: wire.InterceptInfo): wire.InterceptInfo =>
    isOwner ? each : withoutSecrets(each, agent !== undefined);
  return { intercepts, shown };
}

const plainIntercepts = {
  withSession: new WeakMap<wire.InterceptInfo, wire.InterceptInfo>(),
  withoutSession: new WeakMap<wire.InterceptInfo, wire.InterceptInfo>(),
};

function withoutSecrets(info: wire.InterceptInfo, keepsSession: boolean): wire.InterceptInfo {
  const { id, spec, disposition, message, clientSession, podIp, podName, mechanismArgsDesc } = info;
  return madeOnce(keepsSession ? plainIntercepts.withSession : plainIntercepts.withoutSession, info, () =>
    create(wire.InterceptInfoSchema, {
      ...(spec ? { spec: keepsSession ? spec : { ...spec, headerFilters: {} } } : {}),
      ...{ disposition, message, podIp, podName, mechanismArgsDesc },
      id: keepsSession ? id : (spec?.name ?? ''),
      ...(keepsSession && clientSession ? { clientSession } : {}),
    }),
  );
}
