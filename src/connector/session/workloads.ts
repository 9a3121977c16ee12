import { Code, ConnectError } from '@connectrpc/connect';
import type { wire } from '../../protocol/index.ts';
import { done } from './follow.ts';
import type { ManagerLink } from './link.ts';

export interface WorkloadEvents {
  readonly namespace: string;
  readonly events: readonly wire.WorkloadEvent[];
  /** They are everything there is, in place of what was said before. */
  readonly isFirst: boolean;
}

export interface WorkloadWatch {
  readonly signal: AbortSignal;
  readonly onEvents: (events: WorkloadEvents) => void;
  /** Does something of its own, again and again. */
  readonly follow: (what: string, work: (signal: AbortSignal) => Promise<void>) => void;
}

type Link = Pick<ManagerLink, 'manager' | 'workloads'>;

/**
 * The workloads of these namespaces, in one call where the manager is ours: for it every call that is open costs. Any other
 * has a call for each namespace; so is one that may not be seen by us asked for apart, or the others would not be seen either.
 */
export async function watchWorkloads(
  { manager, workloads }: Link,
  sessionId: string,
  namespaces: readonly string[],
  { signal, onEvents, follow }: WorkloadWatch,
): Promise<typeof done | undefined> {
  try {
    const answers = workloads.watchNamespaces({ session: { sessionId }, namespaces: [...namespaces] }, { signal });
    for await (const { namespace, isFirst, delta } of answers) {
      onEvents({ namespace, isFirst, events: delta?.events ?? [] });
    }
  } catch (error) {
    if (!(error instanceof ConnectError) || !apart.includes(error.code)) {
      throw error;
    }
    for (const namespace of namespaces) {
      follow(`workloads of ${namespace}`, (each) =>
        watchOne(manager, sessionId, namespace, { signal: each, onEvents }),
      );
    }
    // For as long as the connection stands the answer is the same.
    return done;
  }
  return undefined;
}

const apart: readonly Code[] = [Code.Unimplemented, Code.PermissionDenied];

async function watchOne(
  manager: ManagerLink['manager'],
  sessionId: string,
  namespace: string,
  { signal, onEvents }: Pick<WorkloadWatch, 'signal' | 'onEvents'>,
): Promise<void> {
  let isFirst = true;
  for await (const { events } of manager.watchWorkloads({ sessionInfo: { sessionId }, namespace }, { signal })) {
    onEvents({ namespace, events, isFirst });
    isFirst = false;
  }
}
