import { concatBytes, type IpBytes, unmapIp } from '../../base/index.ts';

/** Names one connection: who opened it and where it wants to go. */
export interface ConnId {
  readonly protocol: 'tcp' | 'udp';
  readonly source: IpBytes;
  readonly sourcePort: number;
  readonly destination: IpBytes;
  readonly destinationPort: number;
}

const protocolNumbers = { tcp: 6, udp: 17 } as const;

/**
 * source address, port, destination address, port, protocol number: 13 bytes when both addresses are IPv4, else
 * 37 with the IPv4 one mapped into IPv6. Ports are big endian.
 */
export function serializeConnId(id: ConnId): Uint8Array {
  const short = id.source.length === 4 && id.destination.length === 4;
  const widen = (ip: IpBytes): Uint8Array =>
    short || ip.length === 16 ? ip : concatBytes([Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff), ip]);
  return concatBytes([
    widen(id.source),
    portBytes(id.sourcePort),
    widen(id.destination),
    portBytes(id.destinationPort),
    Uint8Array.of(protocolNumbers[id.protocol]),
  ]);
}

/** Undefined for a wrong length or a protocol that is neither TCP nor UDP. */
export function parseConnId(bytes: Uint8Array): ConnId | undefined {
  const size = bytes.length === 13 ? 4 : bytes.length === 37 ? 16 : undefined;
  const number = bytes[bytes.length - 1];
  const protocol = number === 6 ? 'tcp' : number === 17 ? 'udp' : undefined;
  if (!size || !protocol) {
    return undefined;
  }
  const portAt = (at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return {
    protocol,
    source: unmapIp(bytes.slice(0, size)),
    sourcePort: portAt(size),
    destination: unmapIp(bytes.slice(size + 2, 2 * size + 2)),
    destinationPort: portAt(2 * size + 2),
  };
}

function portBytes(port: number): Uint8Array {
  return Uint8Array.of(port >>> 8, port & 0xff);
}
