import { Code, ConnectError } from '@connectrpc/connect';
import type { wire } from '../../protocol/index.ts';
import type { ManagerLink } from './link.ts';

type Manager = Pick<
  ManagerLink['manager'],
  'watchAgentPods' | 'watchAgentPodsDelta' | 'watchAgentPodsInNamespacesDelta'
>;

/**
 * The agents of these namespaces, whole each time. Managers tell of them since 2.28 by namespace, since 2.26 each change
 * alone, and before in snapshots; up to 2.27 only those of the connected namespace.
 */
export async function* watchAgentPods(
  manager: Manager,
  sessionId: string,
  namespaces: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<readonly wire.AgentPodInfo[]> {
  const ways: readonly (() => AsyncIterable<readonly wire.AgentPodInfo[]>)[] = [
    () =>
      gathered(
        manager.watchAgentPodsInNamespacesDelta({ session: { sessionId }, namespaces: [...namespaces] }, { signal }),
      ),
    () => gathered(manager.watchAgentPodsDelta({ sessionId }, { signal })),
    () => listed(manager.watchAgentPods({ sessionId }, { signal })),
  ];
  for (const [index, way] of ways.entries()) {
    try {
      yield* way();
      return;
    } catch (error) {
      const isMissing = error instanceof ConnectError && error.code === Code.Unimplemented;
      if (!isMissing || index === ways.length - 1) {
        throw error;
      }
    }
  }
}

async function* gathered(deltas: AsyncIterable<wire.AgentPodInfoDelta>): AsyncGenerator<readonly wire.AgentPodInfo[]> {
  const pods = new Map<string, wire.AgentPodInfo>();
  for await (const { upserts, removals } of deltas) {
    for (const key of removals) {
      pods.delete(key);
    }
    for (const [key, pod] of Object.entries(upserts)) {
      pods.set(key, pod);
    }
    yield [...pods.values()];
  }
}

async function* listed(
  snapshots: AsyncIterable<wire.AgentPodInfoSnapshot>,
): AsyncGenerator<readonly wire.AgentPodInfo[]> {
  for await (const { agents } of snapshots) {
    yield agents;
  }
}
