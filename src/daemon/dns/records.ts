import { byteAt, classIn, lowerAt, nameEnd, recordType, shortAt } from './wire.ts';

/** One resource record, ready for an answer's section. */
export interface WireRecord {
  /** Undefined is the name that was asked: written as a pointer to the question. */
  readonly owner: Uint8Array | undefined;
  readonly type: number;
  readonly ttlSeconds: number;
  /** Type, class, TTL, length and data, without compression. */
  readonly body: Uint8Array;
}

/** The bytes before the data: type, class, TTL and length. */
const fixedBytes = 10;
/** Far above what anyone's cluster answers; an answer must fit a message. */
const maxRecords = 4_096;

/** Types that are asked in the cluster (`protocol` wire: all that peers look up). */
export const lookedUpTypes: ReadonlySet<number> = new Set([
  recordType.A,
  recordType.NS,
  recordType.CNAME,
  recordType.PTR,
  recordType.MX,
  recordType.TXT,
  recordType.AAAA,
  recordType.SRV,
]);

/**
 * Reads records that follow one another, uncompressed and without a header. `name` is the name that was asked for.
 * Nobody's word is taken: records whose data has not the form of its type are left out, and what cannot be read ends
 * the list. When no record belongs to `name`, the first one's owner is taken for it: peers that completed the name
 * answer with the long form, and resolvers want to see what they asked.
 */
export function parseRecords(bytes: Uint8Array, name: string): WireRecord[] {
  const asked = encodeName(name);
  const all: { owner: Uint8Array; type: number; ttlSeconds: number; body: Uint8Array }[] = [];
  for (let at = 0; at < bytes.length && all.length < maxRecords; ) {
    const ownerEnd = nameEnd(bytes, at, false);
    const dataStart = ownerEnd + fixedBytes;
    if (ownerEnd < 0 || dataStart > bytes.length) {
      break;
    }
    const type = shortAt(bytes, ownerEnd);
    const end = dataStart + shortAt(bytes, ownerEnd + 8);
    if (end > bytes.length) {
      break;
    }
    if (shortAt(bytes, ownerEnd + 2) === classIn && hasForm(type, bytes.subarray(dataStart, end))) {
      const body = bytes.subarray(ownerEnd, end);
      all.push({ owner: bytes.subarray(at, ownerEnd), type, ttlSeconds: ttlAt(body), body });
    }
    at = end;
  }
  const first = all[0]?.owner;
  const known = all.some(({ owner }) => isSameName(owner, asked)) || !first ? asked : first;
  return all.map((each) => ({ ...each, owner: isSameName(each.owner, known) ? undefined : each.owner }));
}

/** A record of our own. */
export function makeRecord(type: number, ttlSeconds: number, data: Uint8Array): WireRecord {
  const body = Buffer.alloc(fixedBytes + data.length);
  body.writeUInt16BE(type, 0);
  body.writeUInt16BE(classIn, 2);
  body.writeUInt32BE(ttlSeconds, 4);
  body.writeUInt16BE(data.length, 8);
  body.set(data, fixedBytes);
  return { owner: undefined, type, ttlSeconds, body };
}

/** The wire form of a valid name, with or without the trailing dot. */
export function encodeName(name: string): Uint8Array {
  const labels = name.replace(/\.$/, '').split('.').filter(Boolean);
  return Buffer.concat([...labels.flatMap((label) => [Buffer.of(label.length), Buffer.from(label, 'latin1')]), zero]);
}
const zero = Buffer.of(0);

/** The largest TTL is 2^31-1; one with the top bit is none (RFC 2181 §8). */
function ttlAt(body: Uint8Array): number {
  const high = shortAt(body, 4);
  return high & 0x8000 ? 0 : high * 0x1_0000 + shortAt(body, 6);
}

/** Data of the forms of RFC 1035 §3.3, RFC 2782 and RFC 3596. Names in it must not point into a message that is not ours. */
function hasForm(type: number, data: Uint8Array): boolean {
  switch (type) {
    case recordType.A:
      return data.length === 4;
    case recordType.AAAA:
      return data.length === 16;
    case recordType.NS:
    case recordType.CNAME:
    case recordType.PTR:
      return nameEnd(data, 0, false) === data.length;
    case recordType.MX:
      return nameEnd(data, 2, false) === data.length;
    case recordType.SRV:
      return nameEnd(data, 6, false) === data.length;
    case recordType.TXT: {
      let at = 0;
      while (at < data.length) {
        at += byteAt(data, at) + 1;
      }
      return data.length > 0 && at === data.length;
    }
    default:
      return false;
  }
}

function isSameName(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((_, index) => lowerAt(a, index) === lowerAt(b, index));
}
