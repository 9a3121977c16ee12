import { type IpBytes, unmapIp } from '../../base/index.ts';

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
  const size = id.source.length === 4 && id.destination.length === 4 ? 4 : 16;
  const out = new Uint8Array(2 * size + 5);
  putAddress(out, 0, size, id.source);
  putPort(out, size, id.sourcePort);
  putAddress(out, size + 2, size, id.destination);
  putPort(out, 2 * size + 2, id.destinationPort);
  out[2 * size + 4] = protocolNumbers[id.protocol];
  return out;
}

function putAddress(out: Uint8Array, at: number, size: number, ip: IpBytes): void {
  if (ip.length < size) {
    out[at + 10] = 0xff;
    out[at + 11] = 0xff;
  }
  out.set(ip, at + size - ip.length);
}

function putPort(out: Uint8Array, at: number, port: number): void {
  out[at] = port >>> 8;
  out[at + 1] = port;
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
