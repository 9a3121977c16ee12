import { viewOf } from '../../base/index.ts';
import { complement, sumWords } from './checksum.ts';
import { type PacketView, protocolIcmp, protocolIcmp6, protocolTcp, protocolUdp, tcpFlag } from './view.ts';

const hopLimit = 64;
const resetBytes = 20;
/** RFC 792 asks for the header and eight bytes, RFC 4443 for as much as fits the smallest MTU. */
const quotedTransportBytes4 = 8;
const maxQuotedBytes6 = 1_232;
const ipv6HeaderBytes = 40;
const fragmentHeaderBytes = 8;
const protocolFragment = 44;

/** Room that any packet of this file needs beyond its payload. */
export const maxHeaderBytes = 40 + 20;

/** A packet's bytes: builders write at `at` of `bytes` and answer how long the packet became. */
export interface Place {
  readonly bytes: Uint8Array;
  readonly at: number;
}

/** An IP header at the place, without the addresses; answers where the payload begins. */
function putHeader({ bytes, at }: Place, addressBytes: number, protocol: number, payloadLength: number): number {
  if (addressBytes === 4) {
    const total = 20 + payloadLength;
    bytes[at] = 0x45;
    bytes[at + 1] = 0;
    bytes[at + 2] = total >>> 8;
    bytes[at + 3] = total & 0xff;
    bytes.fill(0, at + 4, at + 8);
    bytes[at + 8] = hopLimit;
    bytes[at + 9] = protocol;
    bytes[at + 10] = 0;
    bytes[at + 11] = 0;
    return at + 20;
  }
  bytes[at] = 0x60;
  bytes.fill(0, at + 1, at + 4);
  bytes[at + 4] = payloadLength >>> 8;
  bytes[at + 5] = payloadLength & 0xff;
  bytes[at + 6] = protocol;
  bytes[at + 7] = hopLimit;
  return at + 40;
}

function copy(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number, length: number): void {
  for (let i = 0; i < length; i++) {
    to[toAt + i] = from[fromAt + i] ?? 0;
  }
}

function putWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value & 0xff;
}

/** The header's own sum (IPv4 only); the addresses are in place. */
function finishHeader({ bytes, at }: Place, addressBytes: number): void {
  if (addressBytes === 4) {
    putWord(bytes, at + 10, complement(sumWords(bytes, at, 20)));
  }
}

/** The sum over pseudo header and payload, RFC 9293 §3.1 and RFC 8200 §8.1. */
export function transportSum({ bytes, at }: Place, transportAt: number, protocol: number, length: number): number {
  const isV4 = (bytes[at] ?? 0) >>> 4 === 4;
  const addresses = isV4 ? sumWords(bytes, at + 12, 8) : sumWords(bytes, at + 8, 32);
  return complement(sumWords(bytes, transportAt, length, addresses + protocol + length));
}

/** Source and destination of the packet in view, swapped. */
function putSwapped({ bytes, at }: Place, view: PacketView): void {
  const first = at + (view.addressBytes === 4 ? 12 : 8);
  copy(view.buffer, view.destinationOffset, bytes, first, view.addressBytes);
  copy(view.buffer, view.sourceOffset, bytes, first + view.addressBytes, view.addressBytes);
}

/** What refuses the TCP segment in view, RFC 9293 §3.10.7.1: in sequence for whoever sent it. 0 for a RST. */
export function buildReset(place: Place, view: PacketView): number {
  if (view.tcpFlags & tcpFlag.rst) {
    return 0;
  }
  const { bytes, at } = place;
  const { transportOffset: from, tcpFlags: flags } = view;
  const transportAt = putHeader(place, view.addressBytes, protocolTcp, resetBytes);
  putSwapped(place, view);
  finishHeader(place, view.addressBytes);
  bytes.fill(0, transportAt, transportAt + resetBytes);
  putWord(bytes, transportAt, view.destinationPort);
  putWord(bytes, transportAt + 2, view.sourcePort);
  bytes[transportAt + 12] = 0x50;
  const out = viewOf(bytes);
  const input = viewOf(view.buffer);
  if (flags & tcpFlag.ack) {
    out.setUint32(transportAt + 4, input.getUint32(from + 8));
    bytes[transportAt + 13] = tcpFlag.rst;
  } else {
    const payload = Math.max(0, view.transportLength - ((view.byte(from + 12) >>> 4) << 2));
    const consumed = payload + (flags & tcpFlag.syn ? 1 : 0) + (flags & tcpFlag.fin ? 1 : 0);
    out.setUint32(transportAt + 8, (input.getUint32(from + 4) + consumed) >>> 0);
    bytes[transportAt + 13] = tcpFlag.rst | tcpFlag.ack;
  }
  putWord(bytes, transportAt + 16, transportSum(place, transportAt, protocolTcp, resetBytes));
  return transportAt + resetBytes - at;
}

export type UnreachableWhy = 'host' | 'port' | 'prohibited';

const codes4: Readonly<Record<UnreachableWhy, number>> = { host: 1, port: 3, prohibited: 13 };
const codes6: Readonly<Record<UnreachableWhy, number>> = { host: 3, port: 4, prohibited: 1 };

/** ICMP destination unreachable about the packet in view: RFC 792 type 3, RFC 4443 type 1. */
export function buildUnreachable(place: Place, view: PacketView, why: UnreachableWhy): number {
  const { bytes, at } = place;
  const isV4 = view.addressBytes === 4;
  const headerLength = view.transportOffset - view.offset;
  const quoted = Math.min(view.length, isV4 ? headerLength + quotedTransportBytes4 : maxQuotedBytes6);
  const protocol = isV4 ? protocolIcmp : protocolIcmp6;
  const transportAt = putHeader(place, view.addressBytes, protocol, 8 + quoted);
  putSwapped(place, view);
  finishHeader(place, view.addressBytes);
  bytes.fill(0, transportAt, transportAt + 8);
  bytes[transportAt] = isV4 ? 3 : 1;
  bytes[transportAt + 1] = isV4 ? codes4[why] : codes6[why];
  copy(view.buffer, view.offset, bytes, transportAt + 8, quoted);
  putWord(bytes, transportAt + 2, icmpSum(place, transportAt, isV4, 8 + quoted));
  return transportAt + 8 + quoted - at;
}

/** The reply to the echo request in view, which `isEchoRequest` has recognised. */
export function buildEchoReply(place: Place, view: PacketView): number {
  const { bytes, at } = place;
  const isV4 = view.addressBytes === 4;
  const length = view.transportLength;
  const transportAt = putHeader(place, view.addressBytes, view.protocol, length);
  putSwapped(place, view);
  finishHeader(place, view.addressBytes);
  copy(view.buffer, view.transportOffset, bytes, transportAt, length);
  bytes[transportAt] = isV4 ? 0 : 129;
  putWord(bytes, transportAt + 2, 0);
  putWord(bytes, transportAt + 2, icmpSum(place, transportAt, isV4, length));
  return transportAt + length - at;
}

export function isEchoRequest(view: PacketView): boolean {
  const type = view.byte(view.transportOffset);
  return view.addressBytes === 4 ? view.protocol === protocolIcmp && type === 8 : type === 128;
}

/** ICMPv6 counts the pseudo header, ICMP does not. */
function icmpSum(place: Place, transportAt: number, isV4: boolean, length: number): number {
  return isV4
    ? complement(sumWords(place.bytes, transportAt, length))
    : transportSum(place, transportAt, protocolIcmp6, length);
}

export interface UdpEnds {
  readonly source: Uint8Array;
  readonly sourcePort: number;
  readonly destination: Uint8Array;
  readonly destinationPort: number;
}

export function buildUdp(place: Place, ends: UdpEnds, payload: Uint8Array): number {
  const { bytes, at } = place;
  const addressBytes = ends.source.length;
  const length = 8 + payload.length;
  const transportAt = putHeader(place, addressBytes, protocolUdp, length);
  const first = at + (addressBytes === 4 ? 12 : 8);
  copy(ends.source, 0, bytes, first, addressBytes);
  copy(ends.destination, 0, bytes, first + addressBytes, addressBytes);
  finishHeader(place, addressBytes);
  putWord(bytes, transportAt, ends.sourcePort);
  putWord(bytes, transportAt + 2, ends.destinationPort);
  putWord(bytes, transportAt + 4, length);
  putWord(bytes, transportAt + 6, 0);
  bytes.set(payload, transportAt + 8);
  // A computed zero is sent as all ones, RFC 768; zero would mean that there is none.
  putWord(bytes, transportAt + 6, transportSum(place, transportAt, protocolUdp, length) || 0xffff);
  return transportAt + length - at;
}

/** RFC 8200 §4.5: an IPv6 packet's bytes from `from` on behind its header, as one fragment of it. */
export function buildFragment6(
  { bytes, at }: Place,
  whole: Uint8Array,
  piece: { readonly id: number; readonly from: number; readonly length: number },
): number {
  const { id, from, length } = piece;
  const isLast = ipv6HeaderBytes + from + length >= whole.length;
  copy(whole, 0, bytes, at, ipv6HeaderBytes);
  putWord(bytes, at + 4, fragmentHeaderBytes + length);
  bytes[at + 6] = protocolFragment;
  const header = at + ipv6HeaderBytes;
  bytes[header] = whole[6] ?? 0;
  bytes[header + 1] = 0;
  putWord(bytes, header + 2, from | (isLast ? 0 : 1));
  putWord(bytes, header + 4, id >>> 16);
  putWord(bytes, header + 6, id & 0xffff);
  const payload = ipv6HeaderBytes + from;
  bytes.set(whole.subarray(payload, payload + length), header + fragmentHeaderBytes);
  return ipv6HeaderBytes + fragmentHeaderBytes + length;
}

/** The largest payload of a datagram to an address of this size. */
export const maxUdpPayload = (addressBytes: number): number => (addressBytes === 4 ? 65_507 : 65_527);
