import assert from 'node:assert/strict';
import { parseIp } from '../../../src/base/index.ts';
import { buildUdp, maxHeaderBytes, type UdpEnds } from '../../../src/daemon/packet/build.ts';
import { complement, sumWords } from '../../../src/daemon/packet/checksum.ts';
import { tcpFlag } from '../../../src/daemon/packet/view.ts';

export const ip = (text: string): Uint8Array => {
  const parsed = parseIp(text);
  assert.ok(parsed, text);
  return parsed;
};

export function datagram(ends: UdpEnds, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(maxHeaderBytes + payload.length);
  return bytes.subarray(0, buildUdp({ bytes, at: 0 }, ends, payload));
}

export interface Segment {
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
  readonly flags?: number;
  readonly payload?: string;
}

/** A TCP segment with right checksums, IPv4 or IPv6 by its addresses. */
export function segment({
  source,
  sourcePort,
  destination,
  destinationPort,
  flags = tcpFlag.syn,
  payload = '',
}: Segment): Uint8Array {
  const [from, to] = [ip(source), ip(destination)];
  // Built as UDP for its header, then made TCP: twenty bytes of header instead of eight.
  const body = new Uint8Array(12 + payload.length);
  body.set(new TextEncoder().encode(payload), 12);
  const packet = datagram({ source: from, sourcePort, destination: to, destinationPort }, body);
  const isV4 = from.length === 4;
  const at = isV4 ? 20 : 40;
  packet[isV4 ? 9 : 6] = 6;
  packet.fill(0, at + 4, at + 20);
  packet[at + 7] = 7;
  packet[at + 12] = 0x50;
  packet[at + 13] = flags;
  if (isV4) {
    packet.fill(0, 10, 12);
    const header = complement(sumWords(packet, 0, 20));
    packet[10] = header >>> 8;
    packet[11] = header & 0xff;
  }
  const sum = transportSum(packet);
  packet[at + 16] = sum >>> 8;
  packet[at + 17] = sum & 0xff;
  return packet;
}

function transportSum(packet: Uint8Array): number {
  const isV4 = (packet[0] ?? 0) >>> 4 === 4;
  const at = isV4 ? 20 : 40;
  const length = packet.length - at;
  const addresses = isV4 ? sumWords(packet, 12, 8) : sumWords(packet, 8, 32);
  return complement(sumWords(packet, at, length, addresses + (packet[isV4 ? 9 : 6] ?? 0) + length));
}

/** `tcp 10.0.0.1:1 > 10.0.0.2:2 SYN ok`: what a reader of tcpdump knows; `ok` says that the checksums are right. */
export function describe(packet: Uint8Array): string {
  const isV4 = (packet[0] ?? 0) >>> 4 === 4;
  const [from, size, at] = isV4 ? [12, 4, 20] : [8, 16, 40];
  const protocol = packet[isV4 ? 9 : 6];
  const address = (start: number): string =>
    isV4
      ? packet.subarray(start, start + 4).join('.')
      : Buffer.from(packet.subarray(start, start + 16))
          .toString('hex')
          .replace(/0{4,}/, '::');
  const right = (!isV4 || sumWords(packet, 0, 20) === 0xffff) && (protocol === 1 || transportSum(packet) === 0);
  const ends = `${address(from)} > ${address(from + size)}`;
  if (protocol === 1 || protocol === 58) {
    return `icmp ${ends} type ${packet[at]} code ${packet[at + 1]}`;
  }
  const port = (start: number): number => ((packet[start] ?? 0) << 8) | (packet[start + 1] ?? 0);
  const names = Object.entries(tcpFlag).filter(([, bit]) => ((packet[at + 13] ?? 0) & bit) !== 0);
  const flags = protocol === 6 ? ` ${names.map(([name]) => name).join('+')}` : '';
  return `${protocol === 6 ? 'tcp' : 'udp'} ${address(from)}:${port(at)} > ${address(from + size)}:${port(at + 2)}${flags}${right ? ' ok' : ' BAD SUM'}`;
}
