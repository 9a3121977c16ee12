import { hostname, userInfo } from 'node:os';
import type { Clock } from '../../base/index.ts';
import { type Kube, kinds, type V1Pod } from '../../kube/index.ts';
import { productName, wireVersion } from '../../protocol/index.ts';
import { openManagerLink } from '../session/link.ts';

export interface TakeOutOptions {
  readonly kube: Kube;
  readonly managerNamespace: string;
  readonly clock: Clock;
}

const configAnnotation = 'telepresence.io/agent-config';
const callTimeoutMs = 15_000;
/** Pod after pod, each when as many serve as before. */
const takeOutTimeoutMs = 600_000;

/** `namespace/pod` of each pod with a traffic-agent that is not ending anyway. */
export async function podsWithAgent(kube: Kube): Promise<string[]> {
  const pods = await kube.list<V1Pod>(kinds.pod, {});
  return pods
    .filter(({ metadata }) => metadata?.annotations?.[configAnnotation] && !metadata.deletionTimestamp)
    .map(({ metadata }) => `${metadata?.namespace}/${metadata?.name}`);
}

/**
 * Has the traffic-manager take its agents out of all pods, so that none is left that nobody would ever take out. Those
 * who call the workloads lose nothing. Errors: those of the connection, when there is no manager that could.
 */
export async function takeAgentsOut({ kube, managerNamespace, clock }: TakeOutOptions): Promise<void> {
  const namespaces = new Set((await podsWithAgent(kube)).map((name) => name.split('/')[0] ?? ''));
  if (namespaces.size === 0) {
    return;
  }
  const { signal } = new AbortController();
  const { manager, close } = await openManagerLink({ kube, managerNamespace, clock, signal });
  try {
    for (const namespace of namespaces) {
      const client = {
        name: `${userInfo().username}@${hostname()}`,
        installId: 'uninstall',
        product: productName,
        version: wireVersion,
        namespace,
      };
      const { sessionId } = await manager.arriveAsClient(client, { timeoutMs: callTimeoutMs });
      // The lease is short: a call under way does not renew it.
      const remaining = clock.every(5_000, () => {
        void manager.remain({ session: { sessionId } }, { timeoutMs: callTimeoutMs }).catch(() => undefined);
      });
      try {
        await manager.uninstallAgents({ sessionInfo: { sessionId }, agents: [] }, { timeoutMs: takeOutTimeoutMs });
      } finally {
        void remaining.dispose();
        await manager.depart({ sessionId }, { timeoutMs: callTimeoutMs }).catch(() => undefined);
      }
    }
  } finally {
    close();
  }
}
