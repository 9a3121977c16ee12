import * as dnsPacket from 'dns-packet';
import { type Answer, decode } from 'dns-packet';
import { concatBytes, type IpBytes } from '../../base/index.ts';
import { buildQuestion, isTruncated, rcodeOf } from './codec.ts';
import { encodeName, makeRecord, parseRecords, type WireRecord } from './records.ts';
import { recordType } from './wire.ts';

/** Short, because a mapping can be changed while it is in use. */
const aliasTtlSeconds = 4;

/** What the configuration itself says about a mapped name: its address, if the family is the one asked, or its other name. */
export function mappedRecords(target: string | IpBytes, qtype: number): readonly WireRecord[] {
  if (typeof target === 'string') {
    return [makeRecord(recordType.CNAME, aliasTtlSeconds, encodeName(target))];
  }
  const type = target.length === 4 ? recordType.A : recordType.AAAA;
  return type === qtype ? [makeRecord(type, aliasTtlSeconds, target)] : [];
}

/** The records of `target`, told as part of an answer about another name. */
export function recordsOf(target: string, records: readonly WireRecord[]): readonly WireRecord[] {
  const owner = encodeName(target);
  return records.map((record) => (record.owner ? record : { ...record, owner }));
}

/** The library exports the codec of single records; its types do not say so. */
const recordCodec = (dnsPacket as unknown as { answer: { encode(answer: Answer): Uint8Array } }).answer;

export interface UpstreamAnswer {
  readonly rcode: number;
  readonly records: readonly WireRecord[];
}

/**
 * Asks upstream for the records themselves, for an alias of a name out there. They come compressed, so that they are
 * read and written anew. Undefined when there is no answer that can be read.
 */
export async function answerFromUpstream(
  name: string,
  qtype: number,
  forward: (message: Buffer, transport: 'udp' | 'tcp') => Promise<Buffer | undefined>,
): Promise<UpstreamAnswer | undefined> {
  const question = buildQuestion(name, qtype);
  const short = await forward(question, 'udp');
  const answer = short && isTruncated(short) ? await forward(question, 'tcp') : short;
  if (!answer) {
    return undefined;
  }
  try {
    const { answers = [] } = decode(answer);
    const records = concatBytes(answers.map((each) => recordCodec.encode(each)));
    return { rcode: rcodeOf(answer), records: parseRecords(records, name) };
  } catch {
    return undefined;
  }
}
