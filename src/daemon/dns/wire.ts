/** Response codes (RFC 1035 §4.1.1, RFC 6891 §9). */
export const rcode = { noError: 0, formErr: 1, servfail: 2, nxdomain: 3, refused: 5, badVersion: 16 } as const;

/** Numbers of record and question types (IANA). */
export const recordType = {
  A: 1,
  NS: 2,
  CNAME: 5,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  IXFR: 251,
  AXFR: 252,
} as const;

export const classIn = 1;
export const headerBytes = 12;

export const maxNameBytes = 255;
export const maxLabelBytes = 63;

/** Where the name that begins at `at` ends; -1 when it does not. A pointer ends a name, if it may be there at all. */
export function nameEnd(bytes: Uint8Array, at: number, mayPoint: boolean): number {
  const limit = Math.min(bytes.length, at + maxNameBytes);
  let next = at;
  while (next < limit) {
    const label = byteAt(bytes, next);
    if (label === 0) {
      return next + 1;
    }
    if (label >= 0xc0) {
      return mayPoint && next + 2 <= bytes.length ? next + 2 : -1;
    }
    if (label > maxLabelBytes) {
      return -1;
    }
    next += label + 1;
  }
  return -1;
}

/** Zero beyond the end: callers check the length where it matters. */
export function byteAt(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0;
}

export function shortAt(bytes: Uint8Array, at: number): number {
  return (byteAt(bytes, at) << 8) | byteAt(bytes, at + 1);
}

/** Names are equal whatever their case (RFC 4343): ASCII only. */
export function lowerAt(bytes: Uint8Array, at: number): number {
  const byte = byteAt(bytes, at);
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
}
