/** One's complement sums, RFC 1071 and RFC 1624. */

export function fold(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16);
  folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** Sum of the 16-bit words of a range, not complemented. An odd last byte counts as the high half. */
export function sumWords(bytes: Uint8Array, from: number, length: number, start = 0): number {
  let sum = start;
  const end = from + length - 1;
  for (let at = from; at < end; at += 2) {
    sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  }
  if (length & 1) {
    sum += (bytes[from + length - 1] ?? 0) << 8;
  }
  while (sum > 0xffff) {
    sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  }
  return sum;
}

export function complement(sum: number): number {
  return ~sum & 0xffff;
}

/** What to add to a complemented checksum's complement when `before` becomes `after`. */
export function delta(before: number, after: number): number {
  return complement(before) + after;
}

/** Applies a precomputed delta to the checksum at `at`. */
export function adjust(bytes: Uint8Array, at: number, change: number): void {
  const sum = complement(fold(complement(((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)) + change));
  bytes[at] = sum >>> 8;
  bytes[at + 1] = sum & 0xff;
}

/** The same for an offloaded packet, whose field holds the plain sum of the pseudo header. */
export function adjustPartial(bytes: Uint8Array, at: number, change: number): void {
  const sum = fold((((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)) + change);
  bytes[at] = sum >>> 8;
  bytes[at + 1] = sum & 0xff;
}
