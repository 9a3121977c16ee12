/** IP protocol numbers. */
export const protocolIcmp = 1;
export const protocolTcp = 6;
export const protocolUdp = 17;
export const protocolIcmp6 = 58;

export const tcpFlag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;

export type ParseVerdict = 'ok' | 'short' | 'version' | 'fragment' | 'protocol' | 'multicast';

const fragmentHeader = 44;
/** Hop-by-hop, routing and destination options: RFC 8200 §4.1. */
const optionHeaders: readonly number[] = [0, 43, 60];
const maxExtensionHeaders = 8;
/** IPv6's smallest MTU: no ICMP error is longer. */
const maxQuotable = 1_280;

/**
 * One packet, decoded in place. A single record is reused for all packets: nothing is allocated on this path, and
 * nothing throws. Offsets are into `buffer`.
 */
export class PacketView {
  buffer: Uint8Array = new Uint8Array(0);
  offset = 0;
  length = 0;
  /** 4 or 16. */
  addressBytes = 4;
  sourceOffset = 0;
  destinationOffset = 0;
  transportOffset = 0;
  protocol = 0;
  /** Zero for protocols without ports. */
  sourcePort = 0;
  destinationPort = 0;
  tcpFlags = 0;
  /** Of a fragment: its identification, where its bytes belong, whether more follow, and (IPv6) its header's place. */
  fragmentId = 0;
  fragmentAt = 0;
  hasMoreFragments = false;
  fragmentHeaderOffset = 0;

  parse(buffer: Uint8Array, offset: number, length: number): ParseVerdict {
    this.buffer = buffer;
    this.offset = offset;
    this.length = length;
    const version = length > 0 ? this.byte(offset) >>> 4 : 0;
    if (version === 4) {
      return this.#parse4();
    }
    return version === 6 ? this.#parse6() : 'version';
  }

  /** Reads beyond the buffer as 0; every caller has checked the length before. */
  byte(at: number): number {
    return this.buffer[at] ?? 0;
  }

  word(at: number): number {
    return (this.byte(at) << 8) | this.byte(at + 1);
  }

  /** Bytes from the transport header on. */
  get transportLength(): number {
    return this.offset + this.length - this.transportOffset;
  }

  #parse4(): ParseVerdict {
    const { offset, length } = this;
    const header = (this.byte(offset) & 15) << 2;
    if (length < 20 || header < 20 || length < header + 8) {
      return 'short';
    }
    this.addressBytes = 4;
    this.sourceOffset = offset + 12;
    this.destinationOffset = offset + 16;
    this.transportOffset = offset + header;
    this.protocol = this.byte(offset + 9);
    const total = this.word(offset + 2);
    if (total < header + 8 || total > length) {
      return 'short';
    }
    this.length = total;
    if (this.#isForMany(this.destinationOffset)) {
      return 'multicast';
    }
    const fragment = this.word(offset + 6);
    if ((fragment & 0x3fff) !== 0) {
      this.fragmentId = this.word(offset + 4);
      this.fragmentAt = (fragment & 0x1fff) << 3;
      this.hasMoreFragments = (fragment & 0x2000) !== 0;
      return 'fragment';
    }
    return this.#transport();
  }

  /** Multicast or the broadcast. What is reserved between them may stand in for addresses that are in use here. */
  #isForMany(at: number): boolean {
    const first = this.byte(at) & 0xf0;
    return first === 0xe0 || (first === 0xf0 && this.word(at) === 0xffff && this.word(at + 2) === 0xffff);
  }

  #parse6(): ParseVerdict {
    const { offset } = this;
    const total = this.length < 48 ? 0 : this.word(offset + 4) + 40;
    if (total < 48 || total > this.length) {
      return 'short';
    }
    this.length = total;
    this.addressBytes = 16;
    this.sourceOffset = offset + 8;
    this.destinationOffset = offset + 24;
    if (this.byte(this.destinationOffset) === 0xff) {
      return 'multicast';
    }
    let next = this.byte(offset + 6);
    let at = offset + 40;
    for (let headers = 0; optionHeaders.includes(next); headers++) {
      const size = (this.byte(at + 1) + 1) << 3;
      if (headers === maxExtensionHeaders || at + size + 8 > offset + total) {
        return 'short';
      }
      next = this.byte(at);
      at += size;
    }
    this.protocol = next;
    this.transportOffset = at;
    if (next === fragmentHeader) {
      this.protocol = this.byte(at);
      this.fragmentHeaderOffset = at;
      this.fragmentAt = this.word(at + 2) & 0xfff8;
      this.hasMoreFragments = (this.byte(at + 3) & 1) === 1;
      this.fragmentId = ((this.word(at + 4) << 16) | this.word(at + 6)) >>> 0;
      this.transportOffset = at + 8;
      return 'fragment';
    }
    return this.#transport();
  }

  #transport(): ParseVerdict {
    const at = this.transportOffset;
    this.tcpFlags = 0;
    this.sourcePort = 0;
    this.destinationPort = 0;
    if (this.protocol === protocolTcp || this.protocol === protocolUdp) {
      this.sourcePort = this.word(at);
      this.destinationPort = this.word(at + 2);
      if (this.protocol === protocolTcp) {
        if (this.transportLength < 20) {
          return 'short';
        }
        this.tcpFlags = this.byte(at + 13);
      }
      return 'ok';
    }
    const icmp = this.addressBytes === 4 ? protocolIcmp : protocolIcmp6;
    return this.protocol === icmp ? 'ok' : 'protocol';
  }

  /** A copy. */
  get source(): Uint8Array {
    return this.buffer.slice(this.sourceOffset, this.sourceOffset + this.addressBytes);
  }

  /** A copy. */
  get destination(): Uint8Array {
    return this.buffer.slice(this.destinationOffset, this.destinationOffset + this.addressBytes);
  }

  /** A copy of the whole packet. */
  get packet(): Uint8Array {
    return this.buffer.slice(this.offset, this.offset + this.length);
  }

  /** A copy that is short enough to keep, and long enough to be quoted in an ICMP error. */
  get quotable(): Uint8Array {
    const kept = this.buffer.slice(this.offset, this.offset + Math.min(this.length, maxQuotable));
    const [at, length] = this.addressBytes === 4 ? [2, kept.length] : [4, kept.length - 40];
    kept[at] = length >>> 8;
    kept[at + 1] = length & 0xff;
    return kept;
  }
}
