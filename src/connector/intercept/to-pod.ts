import { type Clock, type Disposable, type Logger, Scope } from '../../base/index.ts';
import type { PodPort } from '../contract.ts';
import type { ClusterDialer } from '../outbound/dial.ts';
import { Forward } from '../proxy/forward.ts';
import { podConnections } from './pod-conn.ts';
import { PodDatagrams } from './pod-datagrams.ts';

export interface ToPodDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly dialer: Pick<ClusterDialer, 'dialTcp' | 'openUdp'>;
  /** The pod's address now: a pod that is replaced has another. Empty while there is none. */
  readonly podIp: () => string;
}

/** Makes ports of 127.0.0.1 lead to the same ports of a pod. Errors: `connector.port-taken`; then none is open. */
export async function openToPod(deps: ToPodDeps, ports: readonly PodPort[]): Promise<Disposable> {
  const scope = new Scope();
  const connId = podConnections(deps.podIp);
  try {
    for (const { port, protocol } of ports) {
      if (protocol === 'UDP') {
        await scope.own(new PodDatagrams(deps, () => connId('udp', port))).listen(port);
        continue;
      }
      const targets = {
        dialTcp: async (_: unknown, signal: AbortSignal) => {
          const id = connId('tcp', port);
          return id ? deps.dialer.dialTcp(id, signal) : ({ result: 'unreachable' } as const);
        },
      };
      await scope.own(new Forward({ ...deps, targets }, { host: 'pod', port })).listen(port);
    }
  } catch (error) {
    await scope.dispose();
    throw error;
  }
  return scope;
}
