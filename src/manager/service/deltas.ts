import { create } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import type { Event } from '../../base/index.ts';
import { wire } from '../../protocol/index.ts';
import type { ClientSession, Store } from '../state/store.ts';
import { type Delta, deltasOf, type Limits, watchDeltas } from '../state/watch.ts';
import { agentItems, agentPodItems, interceptItems } from './convert.ts';

type Impl = Partial<ServiceImpl<typeof wire.Manager>>;

/**
 * The watches of newer peers, which hear each change alone: by snapshots, every agent that arrives sends all of them to
 * every client, which grows with the square of their number.
 */
export function deltaWatches(store: Store, onChanged: Event<void>): Impl {
  const podDeltas = (client: ClientSession, namespaces: readonly string[], signal: AbortSignal) => {
    const next = deltasOf(() => agentPodItems(store, client, namespaces));
    return watchDeltas(onChanged, until(signal, client.ended), next);
  };
  return {
    watchAgentsDelta: ({ sessionId }, { signal }) => {
      const { info, ended } = store.client(sessionId);
      const next = deltasOf(() => agentItems(store, [info.namespace]));
      return watchDeltas(onChanged, until(signal, ended), next);
    },
    watchInterceptsDelta: ({ sessionId }, { signal }) => {
      const next = deltasOf(() => interceptItems(store, sessionId));
      return watchDeltas(onChanged, sessionId ? until(signal, store.session(sessionId).ended) : signal, next);
    },
    watchAgentPodsDelta: ({ sessionId }, { signal }) => podDeltas(store.client(sessionId), [], signal),
    watchAgentPodsInNamespacesDelta: ({ session, namespaces }, { signal }) =>
      podDeltas(store.client(session?.sessionId), namespaces, signal),
    watchSessionEvents: ({ session, namespaces }, { signal }) =>
      sessionEvents({ store, onChanged, client: store.client(session?.sessionId), namespaces }, signal),
  };
}

interface SessionWatch {
  readonly store: Store;
  readonly onChanged: Event<void>;
  readonly client: ClientSession;
  readonly namespaces: readonly string[];
}

/** A watch is over with its call, and with its session. */
export function until(signal: AbortSignal, ended: AbortSignal): Limits {
  return [signal, ended];
}

/** The client's agents and its intercepts on one stream, a message for each that changed. */
async function* sessionEvents(
  { store, onChanged, client, namespaces }: SessionWatch,
  signal: AbortSignal,
): AsyncGenerator<wire.SessionEventsDelta> {
  const pods = deltasOf(() => agentPodItems(store, client, namespaces));
  const intercepts = deltasOf(() => interceptItems(store, client.id));
  const next = (): [Delta<wire.AgentPodInfo> | undefined, Delta<wire.InterceptInfo> | undefined] => [
    pods(),
    intercepts(),
  ];
  const limit = until(signal, client.ended);
  for await (const [agentPods, ours] of watchDeltas(onChanged, limit, next)) {
    if (agentPods) {
      yield create(wire.SessionEventsDeltaSchema, { agentPods });
    }
    if (ours) {
      yield create(wire.SessionEventsDeltaSchema, { intercepts: ours });
    }
  }
}
