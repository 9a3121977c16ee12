import { type Clock, type Disposable, type IpBytes, type Logger, parseIp, Scope } from '../../base/index.ts';
import type { ConnId } from '../../protocol/index.ts';
import type { PodPort } from '../contract.ts';
import type { ClusterDialer } from '../outbound/dial.ts';
import { Forward } from '../proxy/forward.ts';
import { PodDatagrams } from './pod-datagrams.ts';

export interface ToPodDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly dialer: Pick<ClusterDialer, 'dialTcp' | 'openUdp'>;
  /** The pod's address now: a pod that is replaced has another. Empty while there is none. */
  readonly podIp: () => string;
}

const firstPort = 1_024;
const loopback4 = Uint8Array.of(127, 0, 0, 1);
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/** Makes ports of 127.0.0.1 lead to the same ports of a pod. Errors: `connector.port-taken`; then none is open. */
export async function openToPod(deps: ToPodDeps, ports: readonly PodPort[]): Promise<Disposable> {
  const scope = new Scope();
  // Anywhere: an older manager joins tunnels by their connection ids, and other dialers count from the start.
  let source = firstPort + Math.floor(Math.random() * (65_535 - firstPort));
  const connId = (protocol: ConnId['protocol'], destinationPort: number): ConnId | undefined => {
    const destination = parseIp(deps.podIp());
    source = source >= 65_535 ? firstPort : source + 1;
    return (
      destination && {
        protocol,
        source: loopbackOf(destination),
        sourcePort: source,
        destination,
        destinationPort,
      }
    );
  };
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

const loopbackOf = ({ length }: IpBytes): IpBytes => (length === 4 ? loopback4 : loopback6);
