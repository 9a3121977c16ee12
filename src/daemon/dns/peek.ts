import {
  byteAt,
  headerBytes,
  lowerAt,
  maxLabelBytes,
  maxNameBytes,
  nameEnd,
  rcode,
  recordType,
  shortAt,
} from './wire.ts';

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

/** True for an answer to just this message: its operation, its id unless that is ours to choose, its question. */
export function isAnswerTo(message: Buffer, answer: Buffer): boolean {
  const isResponse = answer.length >= headerBytes && (byteAt(answer, 2) & 0x80) !== 0;
  if (!isResponse || (byteAt(answer, 2) & 0x78) !== (byteAt(message, 2) & 0x78)) {
    return false;
  }
  if (shortAt(answer, 4) === 0) {
    // Servers that refuse or fail may leave the question out, and so may any answer to an update (RFC 2136 §3.8).
    const isStandard = (byteAt(message, 2) & 0x78) === 0 && shortAt(message, 4) !== 0;
    return !isStandard || (byteAt(answer, 3) & 0x0f) !== rcode.noError;
  }
  const end = nameEnd(message, headerBytes, false) + 4;
  if (end < headerBytes + 5 || end > message.length || end > answer.length) {
    return false;
  }
  for (let at = headerBytes; at < end - 4; at++) {
    // Some servers answer in a spelling of their own.
    if (lowerAt(message, at) !== lowerAt(answer, at)) {
      return false;
    }
  }
  return message.compare(answer, end - 4, end, end - 4, end) === 0;
}
