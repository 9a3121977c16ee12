import { type IpBytes, parseIp } from '../../base/index.ts';
import type { ConnId } from '../../protocol/index.ts';

const firstPort = 1_024;
const loopback4 = Uint8Array.of(127, 0, 0, 1);
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/** Names connections from this machine to ports of a pod; undefined while the pod has no address. */
export function podConnections(
  podIp: () => string,
): (protocol: ConnId['protocol'], port: number) => ConnId | undefined {
  // Anywhere: an older manager joins tunnels by their connection ids, and other dialers count from the start.
  let source = firstPort + Math.floor(Math.random() * (65_535 - firstPort));
  return (protocol, destinationPort) => {
    const destination = parseIp(podIp());
    source = source >= 65_535 ? firstPort : source + 1;
    return (
      destination && { protocol, source: loopbackOf(destination), sourcePort: source, destination, destinationPort }
    );
  };
}

const loopbackOf = ({ length }: IpBytes): IpBytes => (length === 4 ? loopback4 : loopback6);
