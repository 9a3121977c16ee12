import type { Edns, Query } from './peek.ts';
import { encodeName, type WireRecord } from './records.ts';
import { byteAt, classIn, headerBytes, shortAt } from './wire.ts';

/** An answer section that fits every question for the same name and type, whatever its id and spelling. */
export interface Section {
  readonly rcode: number;
  readonly count: number;
  readonly bytes: Uint8Array;
  /** Where the records' TTLs stand in `bytes`. */
  readonly ttlOffsets: readonly number[];
}

export type Transport = 'udp' | 'tcp';

export interface AnswerOptions {
  readonly edns: Edns | undefined;
  readonly transport: Transport;
  /** Since the records were received: their TTLs have run down by as much. */
  readonly ageSeconds: number;
}

/** What a message may carry over UDP: without EDNS (RFC 1035 §4.2.1), and what never needs a fragment. */
const plainUdpBytes = 512;
export const maxUdpBytes = 1_232;
const maxTcpBytes = 65_535;
const optBytes = 11;
/** A pointer to the question's name, which follows the header. */
const pointer = Buffer.of(0xc0, headerBytes);

const flag = { response: 0x80, truncated: 0x02, recursionDesired: 0x01, recursionAvailable: 0x80, checking: 0x10 };

export function toSection(code: number, records: readonly WireRecord[]): Section {
  const parts: Uint8Array[] = [];
  const ttlOffsets: number[] = [];
  let length = 0;
  let count = 0;
  for (const { owner, body } of records) {
    const name = owner ?? pointer;
    if (length + name.length + body.length > maxTcpBytes) {
      break;
    }
    parts.push(name, body);
    ttlOffsets.push(length + name.length + 4);
    length += name.length + body.length;
    count++;
  }
  return { rcode: code, count, bytes: Buffer.concat(parts), ttlOffsets };
}

export const emptySection = (code: number): Section => ({
  rcode: code,
  count: 0,
  bytes: new Uint8Array(0),
  ttlOffsets: [],
});

/** The whole answer. Where it is more than the asker can take, the records are left out and the answer says so. */
export function buildAnswer(
  message: Buffer,
  { questionEnd }: Query,
  section: Section,
  { edns, transport, ageSeconds }: AnswerOptions,
): Buffer {
  const limit = transport === 'tcp' ? maxTcpBytes : udpLimit(edns);
  const whole = questionEnd + section.bytes.length + (edns ? optBytes : 0);
  const isCut = whole > limit;
  const answer = Buffer.allocUnsafe(isCut ? whole - section.bytes.length : whole);
  message.copy(answer, 0, 0, questionEnd);
  answer[2] = flag.response | (byteAt(message, 2) & flag.recursionDesired) | (isCut ? flag.truncated : 0);
  answer[3] = flag.recursionAvailable | (byteAt(message, 3) & flag.checking) | (section.rcode & 0x0f);
  answer.writeUInt16BE(isCut ? 0 : section.count, 6);
  answer.writeUInt16BE(0, 8);
  answer.writeUInt16BE(edns ? 1 : 0, 10);
  let at = questionEnd;
  if (!isCut) {
    answer.set(section.bytes, at);
    if (ageSeconds > 0) {
      for (const offset of section.ttlOffsets) {
        answer.writeUInt32BE(Math.max(0, answer.readUInt32BE(at + offset) - ageSeconds), at + offset);
      }
    }
    at += section.bytes.length;
  }
  if (edns) {
    writeOpt(answer, at, section.rcode, edns);
  }
  return answer;
}

/** A header that says what went wrong, when the rest of the message cannot be read or is none of our business. */
export function buildBareAnswer(message: Buffer, code: number): Buffer {
  const answer = Buffer.alloc(headerBytes);
  message.copy(answer, 0, 0, 4);
  answer[2] = (byteAt(message, 2) & 0x79) | flag.response;
  answer[3] = flag.recursionAvailable | (code & 0x0f);
  return answer;
}

/** A question of our own to the resolver upstream; the id is given on the way. */
export function buildQuestion(name: string, qtype: number): Buffer {
  const tail = Buffer.alloc(4);
  tail.writeUInt16BE(qtype, 0);
  tail.writeUInt16BE(classIn, 2);
  return Buffer.concat([Buffer.of(0, 0, flag.recursionDesired, 0, 0, 1, 0, 0, 0, 0, 0, 0), encodeName(name), tail]);
}

export const rcodeOf = (answer: Buffer): number => byteAt(answer, 3) & 0x0f;
export const isTruncated = (answer: Buffer): boolean => (byteAt(answer, 2) & flag.truncated) !== 0;
export const idOf = (message: Buffer): number => shortAt(message, 0);

function udpLimit(edns: Edns | undefined): number {
  return edns ? Math.min(maxUdpBytes, Math.max(plainUdpBytes, edns.udpBytes)) : plainUdpBytes;
}

/** RFC 6891 §6.1.2: root, type, our size, upper bits of the code, version 0, DO as it was asked (RFC 3225 §3), no options. */
function writeOpt(answer: Buffer, at: number, code: number, { dnssecOk }: Edns): void {
  answer.writeUInt8(0, at);
  answer.writeUInt16BE(41, at + 1);
  answer.writeUInt16BE(maxUdpBytes, at + 3);
  answer.writeUInt8(code >> 4, at + 5);
  answer.writeUInt8(0, at + 6);
  answer.writeUInt16BE(dnssecOk ? 0x8000 : 0, at + 7);
  answer.writeUInt16BE(0, at + 9);
}
