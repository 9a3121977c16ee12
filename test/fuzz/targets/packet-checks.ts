import { fold, sumWords } from '../../../src/daemon/packet/checksum.ts';
import { PacketView } from '../../../src/daemon/packet/view.ts';

/** True when header and transport sums are right; undefined for what has none. */
export function isSound(packet: Uint8Array): boolean | undefined {
  const view = new PacketView();
  if (view.parse(packet, 0, packet.length) !== 'ok') {
    return undefined;
  }
  const length = view.transportLength;
  const isV4 = view.addressBytes === 4;
  if (isV4 && sumWords(packet, 0, view.transportOffset) !== 0xffff) {
    return false;
  }
  const addresses = sumWords(packet, view.sourceOffset, 2 * view.addressBytes);
  const pseudo = isV4 && view.protocol === 1 ? 0 : addresses + view.protocol + length;
  return sumWords(packet, view.transportOffset, length, pseudo) === 0xffff;
}

/** The packet in fragments of `size` payload bytes, a multiple of eight. */
export function cut(packet: Uint8Array, size: number, id: number): Uint8Array[] {
  const isV4 = (packet[0] ?? 0) >>> 4 === 4;
  const header = isV4 ? 20 : 40;
  const pieces: Uint8Array[] = [];
  for (let at = header; at < packet.length; at += size) {
    const end = Math.min(packet.length, at + size);
    const hasMore = end < packet.length;
    pieces.push(isV4 ? piece4(packet, at, end, id, hasMore) : piece6(packet, at, end, id, hasMore));
  }
  return pieces;
}

/** RFC 791 §3.2. The header's sum is not made again: the daemon does not look at it. */
function piece4(packet: Uint8Array, at: number, end: number, id: number, hasMore: boolean): Uint8Array {
  const piece = Buffer.alloc(20 + end - at);
  piece.set(packet.subarray(0, 20));
  piece.set(packet.subarray(at, end), 20);
  piece.writeUInt16BE(piece.length, 2);
  piece.writeUInt16BE(id & 0xffff, 4);
  piece.writeUInt16BE(((at - 20) >>> 3) | (hasMore ? 0x2000 : 0), 6);
  return piece;
}

/** RFC 8200 §4.5. */
function piece6(packet: Uint8Array, at: number, end: number, id: number, hasMore: boolean): Uint8Array {
  const piece = Buffer.alloc(48 + end - at);
  piece.set(packet.subarray(0, 40));
  piece.set(packet.subarray(at, end), 48);
  piece.writeUInt16BE(piece.length - 40, 4);
  piece[6] = 44;
  piece[40] = packet[6] ?? 0;
  piece.writeUInt16BE((at - 40) | (hasMore ? 1 : 0), 42);
  piece.writeUInt32BE(id, 44);
  return piece;
}

/** Sums have two zeros: whether they are right is looked at apart. */
export function withoutSums(packet: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(packet);
  const isV4 = (copy[0] ?? 0) >>> 4 === 4;
  if (isV4) {
    copy.fill(0, 10, 12);
  }
  const at = (isV4 ? 20 : 40) + (copy[isV4 ? 9 : 6] === 6 ? 16 : 6);
  copy.fill(0, at, at + 2);
  return copy;
}

/** As the kernel hands over a segment whose sum the device is to finish: the field has the pseudo header's alone. */
export function withPartialSum(packet: Uint8Array): Uint8Array {
  const copy = Buffer.from(packet);
  const isV4 = (copy[0] ?? 0) >>> 4 === 4;
  const [at, addresses, length] = isV4 ? [20, 12, 8] : [40, 8, 32];
  copy.writeUInt16BE(fold(sumWords(copy, addresses, length) + 6 + copy.length - at), at + 16);
  return copy;
}
