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

/** What a message to the server is, before anything is looked up. */
export type Peek =
  | { readonly kind: 'query'; readonly query: Query }
  /** Another operation, or none or several questions: the resolver upstream knows what to do with it. */
  | { readonly kind: 'foreign' }
  /** No message of ours to answer: too short, or itself a response. */
  | { readonly kind: 'ignore' }
  /** Cannot be read, but has a header to answer. */
  | { readonly kind: 'malformed' };

/** A standard query with one question. The message's bytes stay its own. */
export interface Query {
  readonly qtype: number;
  readonly qclass: number;
  /** Lower case with a trailing dot; undefined when it holds bytes that no host or service name has. */
  readonly name: string | undefined;
  /** Where the question section ends in the message, from its start. */
  readonly questionEnd: number;
}

/** What the asker says about itself (EDNS, RFC 6891 §6.1). */
export interface Edns {
  readonly version: number;
  /** The largest answer over UDP, bytes. */
  readonly udpBytes: number;
  readonly dnssecOk: boolean;
}

const ignore = { kind: 'ignore' } as const;
const foreign = { kind: 'foreign' } as const;
const malformed = { kind: 'malformed' } as const;
const maxNameBytes = 255;
const maxLabelBytes = 63;
const dot = 0x2e;

/** The lower-case form of each byte that a name of ours may hold; 0 for the others. */
const folded = new Uint8Array(256);
for (const character of 'abcdefghijklmnopqrstuvwxyz0123456789-_*') {
  const code = character.charCodeAt(0);
  folded[code] = code;
  folded[character.toUpperCase().charCodeAt(0)] = code;
}
const scratch = Buffer.alloc(maxNameBytes + 1);

/** Reads header and question of any bytes; never throws, never looks further than it must. */
export function peekQuery(message: Buffer): Peek {
  if (message.length < headerBytes || byteAt(message, 2) & 0x80) {
    return ignore;
  }
  if ((byteAt(message, 2) & 0x78) !== 0 || shortAt(message, 4) !== 1) {
    return foreign;
  }
  let at = headerBytes;
  let length = 0;
  let isPlain = true;
  for (let label = byteAt(message, at); label !== 0; label = byteAt(message, at)) {
    if (label > maxLabelBytes || length + label + 1 >= maxNameBytes || at + label + 1 >= message.length) {
      return malformed;
    }
    for (let each = at + 1; each <= at + label; each++) {
      const character = folded[byteAt(message, each)] ?? 0;
      isPlain &&= character !== 0;
      scratch[length++] = character;
    }
    scratch[length++] = dot;
    at += label + 1;
  }
  const questionEnd = at + 5;
  if (questionEnd > message.length) {
    return malformed;
  }
  const name = isPlain ? (length === 0 ? '.' : scratch.toString('latin1', 0, length)) : undefined;
  return {
    kind: 'query',
    query: { qtype: shortAt(message, at + 1), qclass: shortAt(message, at + 3), name, questionEnd },
  };
}

/** The OPT record of a query: undefined when there is none, `malformed` for two or what cannot be read. */
export function peekEdns(message: Buffer, { questionEnd }: Query): Edns | 'malformed' | undefined {
  const others = shortAt(message, 6) + shortAt(message, 8);
  const records = others + shortAt(message, 10);
  let at = questionEnd;
  let found: Edns | undefined;
  for (let index = 0; index < records; index++) {
    const start = at;
    at = nameEnd(message, at, true);
    if (at < 0 || at + 10 > message.length) {
      return 'malformed';
    }
    if (index >= others && shortAt(message, at) === recordType.OPT) {
      // The owner of an OPT record is the root; two of them are an error (RFC 6891 §6.1.1).
      if (found || at !== start + 1) {
        return 'malformed';
      }
      found = {
        udpBytes: shortAt(message, at + 2),
        version: byteAt(message, at + 5),
        dnssecOk: (byteAt(message, at + 6) & 0x80) !== 0,
      };
    }
    at += 10 + shortAt(message, at + 8);
    if (at > message.length) {
      return 'malformed';
    }
  }
  return found;
}

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

/** True for an answer to just this message: its operation, its id unless that is ours to choose, its question. */
export function isAnswerTo(message: Buffer, answer: Buffer): boolean {
  const isResponse = answer.length >= headerBytes && (byteAt(answer, 2) & 0x80) !== 0;
  if (!isResponse || (byteAt(answer, 2) & 0x78) !== (byteAt(message, 2) & 0x78)) {
    return false;
  }
  if (shortAt(answer, 4) === 0) {
    // Servers that refuse or fail may leave the question out.
    return (byteAt(answer, 3) & 0x0f) !== rcode.noError || shortAt(message, 4) === 0;
  }
  const end = nameEnd(message, headerBytes, false) + 4;
  if (end < headerBytes + 5 || end > message.length || end > answer.length) {
    return false;
  }
  for (let at = headerBytes; at < end - 4; at++) {
    // Some servers answer in a spelling of their own.
    if (lower(byteAt(message, at)) !== lower(byteAt(answer, at))) {
      return false;
    }
  }
  return message.compare(answer, end - 4, end, end - 4, end) === 0;
}

const lower = (byte: number): number => (byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte);

/** Zero beyond the end: callers check the length where it matters. */
export function byteAt(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0;
}

export function shortAt(bytes: Uint8Array, at: number): number {
  return (byteAt(bytes, at) << 8) | byteAt(bytes, at + 1);
}
