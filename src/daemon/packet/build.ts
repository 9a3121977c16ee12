import { viewOf } from '../../base/index.ts';
import { complement, sumWords } from './checksum.ts';
import { protocolTcp, protocolUdp, tcpFlag } from './view.ts';

const protocolIcmp = 1;
const protocolIcmp6 = 58;
const hopLimit = 64;

/** An IP header in front of room for `payloadLength` bytes. Answers the packet and where the payload begins. */
function ipPacket(
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  payloadLength: number,
): { packet: Uint8Array; at: number } {
  const isV4 = source.length === 4;
  const at = isV4 ? 20 : 40;
  const packet = new Uint8Array(at + payloadLength);
  const view = viewOf(packet);
  if (isV4) {
    packet[0] = 0x45;
    view.setUint16(2, packet.length);
    packet[6] = 0x40;
    packet[8] = hopLimit;
    packet[9] = protocol;
    packet.set(source, 12);
    packet.set(destination, 16);
    view.setUint16(10, complement(sumWords(packet, 0, 20)));
  } else {
    packet[0] = 0x60;
    view.setUint16(4, payloadLength);
    packet[6] = protocol;
    packet[7] = hopLimit;
    packet.set(source, 8);
    packet.set(destination, 24);
  }
  return { packet, at };
}

/** The sum over pseudo header and payload, RFC 793 and RFC 8200 §8.1. */
function transportSum(packet: Uint8Array, at: number, protocol: number): number {
  const addresses = at === 20 ? sumWords(packet, 12, 8) : sumWords(packet, 8, 32);
  const length = packet.length - at;
  return complement(sumWords(packet, at, length, addresses + protocol + length));
}

/** What refuses a TCP segment, RFC 9293 §3.10.7.1: in sequence for whoever sent it. */
export function buildReset(segment: Uint8Array): Uint8Array | undefined {
  const isV4 = (segment[0] ?? 0) >>> 4 === 4;
  const size = isV4 ? 4 : 16;
  const from = isV4 ? 12 : 8;
  const t = isV4 ? ((segment[0] ?? 0) & 15) << 2 : 40;
  if (segment.length < t + 20 || ((segment[t + 13] ?? 0) & tcpFlag.rst) !== 0) {
    return undefined;
  }
  const source = segment.subarray(from, from + size);
  const destination = segment.subarray(from + size, from + 2 * size);
  const { packet, at } = ipPacket(destination, source, protocolTcp, 20);
  const view = viewOf(packet);
  const input = viewOf(segment);
  const flags = segment[t + 13] ?? 0;
  view.setUint16(at, input.getUint16(t + 2));
  view.setUint16(at + 2, input.getUint16(t));
  packet[at + 12] = 0x50;
  if (flags & tcpFlag.ack) {
    view.setUint32(at + 4, input.getUint32(t + 8));
    packet[at + 13] = tcpFlag.rst;
  } else {
    const total = isV4 ? input.getUint16(2) : input.getUint16(4) + 40;
    const payload = Math.max(0, total - t - (((segment[t + 12] ?? 0) >>> 4) << 2));
    const consumed = payload + (flags & tcpFlag.syn ? 1 : 0) + (flags & tcpFlag.fin ? 1 : 0);
    view.setUint32(at + 8, (input.getUint32(t + 4) + consumed) >>> 0);
    packet[at + 13] = tcpFlag.rst | tcpFlag.ack;
  }
  view.setUint16(at + 16, transportSum(packet, at, protocolTcp));
  return packet;
}

export type UnreachableWhy = 'host' | 'port' | 'prohibited';

/** ICMP destination unreachable about `original`, RFC 792 and RFC 4443: type 3 (v4) or 1 (v6). */
export function buildUnreachable(original: Uint8Array, why: UnreachableWhy): Uint8Array {
  const isV4 = (original[0] ?? 0) >>> 4 === 4;
  const size = isV4 ? 4 : 16;
  const from = isV4 ? 12 : 8;
  const quoted = original.subarray(0, Math.min(original.length, isV4 ? (((original[0] ?? 0) & 15) << 2) + 8 : 1_232));
  const protocol = isV4 ? protocolIcmp : protocolIcmp6;
  const { packet, at } = ipPacket(
    original.subarray(from + size, from + 2 * size),
    original.subarray(from, from + size),
    protocol,
    8 + quoted.length,
  );
  packet[at] = isV4 ? 3 : 1;
  packet[at + 1] = isV4 ? { host: 1, port: 3, prohibited: 13 }[why] : { host: 3, port: 4, prohibited: 1 }[why];
  packet.set(quoted, at + 8);
  const sum = isV4 ? complement(sumWords(packet, at, 8 + quoted.length)) : transportSum(packet, at, protocol);
  viewOf(packet).setUint16(at + 2, sum);
  return packet;
}

export interface UdpEnds {
  readonly source: Uint8Array;
  readonly sourcePort: number;
  readonly destination: Uint8Array;
  readonly destinationPort: number;
}

export function buildUdp(
  { source, sourcePort, destination, destinationPort }: UdpEnds,
  payload: Uint8Array,
): Uint8Array {
  const { packet, at } = ipPacket(source, destination, protocolUdp, 8 + payload.length);
  const view = viewOf(packet);
  view.setUint16(at, sourcePort);
  view.setUint16(at + 2, destinationPort);
  view.setUint16(at + 4, 8 + payload.length);
  packet.set(payload, at + 8);
  // A computed zero is sent as all ones, RFC 768; zero would mean that there is none.
  view.setUint16(at + 6, transportSum(packet, at, protocolUdp) || 0xffff);
  return packet;
}
