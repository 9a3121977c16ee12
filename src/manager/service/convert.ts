import { create } from '@bufbuild/protobuf';
import { parseIp } from '../../base/index.ts';
import { wire } from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import type { AgentSession, ClientSession, Store } from '../state/store.ts';
import type { Items } from '../state/watch.ts';

const { ACTIVE, WAITING, AGENT_ERROR, REMOVED, NO_AGENT } = wire.InterceptDispositionType;

export const kindNumbers = {
  Deployment: wire.WorkloadInfo_Kind.DEPLOYMENT,
  ReplicaSet: wire.WorkloadInfo_Kind.REPLICASET,
  StatefulSet: wire.WorkloadInfo_Kind.STATEFULSET,
} as const;

export function toWorkloadInfo(store: Store, workload: Workload): wire.WorkloadInfo {
  const clients = [...store.intercepts.values()]
    .filter(
      ({ spec, disposition }) =>
        spec?.agent === workload.name && spec.namespace === workload.namespace && disposition === ACTIVE,
    )
    .map(({ spec }) => ({ client: spec?.client ?? '' }));
  const hasAgent = store.agentsOf(workload.name, workload.namespace).length > 0;
  const desired = workload.object.spec?.replicas ?? 1;
  const ready = workload.object.status?.readyReplicas ?? 0;
  const { NO_AGENT_UNSPECIFIED, INSTALLED, INTERCEPTED } = wire.WorkloadInfo_AgentState;
  return create(wire.WorkloadInfoSchema, {
    kind: kindNumbers[workload.kind],
    name: workload.name,
    namespace: workload.namespace,
    uid: workload.object.metadata?.uid ?? '',
    agentState: clients.length > 0 ? INTERCEPTED : hasAgent ? INSTALLED : NO_AGENT_UNSPECIFIED,
    interceptClients: clients,
    state: ready >= desired ? wire.WorkloadInfo_State.AVAILABLE : wire.WorkloadInfo_State.PROGRESSING,
    desiredReplicas: desired,
    readyReplicas: ready,
  });
}

export function workloadKey(view: { kind: number; name: string; namespace: string }): string {
  return `${view.kind}/${view.namespace}/${view.name}`;
}

const byId = (a: { readonly id: string }, b: { readonly id: string }): number => (a.id < b.id ? -1 : 1);

export function agentSnapshot(store: Store, namespaces: readonly string[]): wire.AgentInfoSnapshot {
  const agents = agentsIn(store, namespaces).map(({ info }) => info);
  return create(wire.AgentInfoSnapshotSchema, { agents });
}

function agentsIn(store: Store, namespaces: readonly string[]): AgentSession[] {
  return [...store.agents.values()].filter(({ info }) => namespaces.includes(info.namespace)).sort(byId);
}

export function agentItems(store: Store, namespaces: readonly string[]): Items<wire.AgentInfo> {
  return new Map(agentsIn(store, namespaces).map(({ id, info }) => [id, { version: info, value: () => info }]));
}

/** The agents that a client may connect to: where it is, in these namespaces, and of what it intercepts elsewhere. */
export function agentPodItems(
  store: Store,
  client: ClientSession,
  namespaces: readonly string[] = [],
): Items<wire.AgentPodInfo> {
  const mine = [...store.intercepts.values()].filter((intercept) => intercept.clientSession?.sessionId === client.id);
  const isMine = (info: wire.AgentInfo): boolean =>
    mine.some(({ spec }) => spec?.agent === info.name && spec.namespace === info.namespace);
  const isNear = ({ namespace }: wire.AgentInfo): boolean =>
    namespace === client.info.namespace ||
    namespaces.includes(namespace) ||
    mine.some(({ spec }) => spec?.namespace === namespace);
  return new Map(
    [...store.agents.values()]
      .filter(({ info }) => isNear(info))
      .map(({ id, info }) => {
        const intercepted = isMine(info);
        const version = `${info.podIp} ${info.apiPort} ${info.version} ${intercepted}`;
        return [id, { version, value: () => toAgentPod(info, intercepted) }];
      }),
  );
}

export function agentPodSnapshot(store: Store, client: ClientSession): wire.AgentPodInfoSnapshot {
  const items = [...agentPodItems(store, client)].sort(([a], [b]) => (a < b ? -1 : 1));
  return create(wire.AgentPodInfoSnapshotSchema, { agents: items.map(([, { value }]) => value()) });
}

function toAgentPod(info: wire.AgentInfo, intercepted: boolean): wire.AgentPodInfo {
  return create(wire.AgentPodInfoSchema, {
    podName: info.podName,
    namespace: info.namespace,
    podIp: parseIp(info.podIp) ?? new Uint8Array(0),
    apiPort: info.apiPort,
    intercepted,
    workloadName: info.name,
    podId: info.podUid,
    version: info.version,
  });
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

function withoutSecrets(info: wire.InterceptInfo, keepsSession: boolean): wire.InterceptInfo {
  const { id, spec, disposition, message, clientSession, podIp, podName, mechanismArgsDesc } = info;
  return create(wire.InterceptInfoSchema, {
    ...(spec ? { spec: keepsSession ? spec : { ...spec, headerFilters: {} } } : {}),
    ...{ disposition, message, podIp, podName, mechanismArgsDesc },
    id: keepsSession ? id : (spec?.name ?? ''),
    ...(keepsSession && clientSession ? { clientSession } : {}),
  });
}

/** Every workload that is new or has changed since `known`; `known` is brought up to date. */
export function workloadDelta(
  store: Store,
  view: ClusterView,
  namespace: string,
  known: Map<string, string>,
): wire.WorkloadEvent[] {
  const { ADDED_UNSPECIFIED, MODIFIED, DELETED } = wire.WorkloadEvent_Type;
  const present = new Map(
    view
      .workloads(namespace)
      .map((workload) => [`${kindNumbers[workload.kind]}/${namespace}/${workload.name}`, workload]),
  );
  const events: wire.WorkloadEvent[] = [];
  for (const [key, workload] of present) {
    const info = toWorkloadInfo(store, workload);
    const print = JSON.stringify([
      info.agentState,
      info.interceptClients.map(({ client }) => client),
      info.state,
      info.desiredReplicas,
      info.readyReplicas,
    ]);
    if (known.get(key) !== print) {
      events.push(
        create(wire.WorkloadEventSchema, { type: known.has(key) ? MODIFIED : ADDED_UNSPECIFIED, workload: info }),
      );
      known.set(key, print);
    }
  }
  for (const key of [...known.keys()].filter((each) => !present.has(each))) {
    const [kind = '', , name = ''] = key.split('/');
    known.delete(key);
    events.push(create(wire.WorkloadEventSchema, { type: DELETED, workload: { kind: Number(kind), name, namespace } }));
  }
  return events;
}
