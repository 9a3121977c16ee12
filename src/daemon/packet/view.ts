/** IP protocol numbers. */
export const protocolTcp = 6;
export const protocolUdp = 17;

export const tcpFlag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;

export type ParseVerdict = 'ok' | 'short' | 'version' | 'fragment' | 'protocol';

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
  sourcePort = 0;
  destinationPort = 0;
  tcpFlags = 0;

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
    if ((this.word(offset + 6) & 0x3fff) !== 0) {
      return 'fragment';
    }
    return this.#ports();
  }

  #parse6(): ParseVerdict {
    const { offset, length } = this;
    if (length < 48) {
      return 'short';
    }
    this.addressBytes = 16;
    this.sourceOffset = offset + 8;
    this.destinationOffset = offset + 24;
    this.transportOffset = offset + 40;
    // Extension headers are not followed: a fragment or an option counts as an unknown protocol.
    this.protocol = this.byte(offset + 6);
    return this.#ports();
  }

  #ports(): ParseVerdict {
    const at = this.transportOffset;
    if (this.protocol !== protocolTcp && this.protocol !== protocolUdp) {
      return 'protocol';
    }
    this.sourcePort = this.word(at);
    this.destinationPort = this.word(at + 2);
    this.tcpFlags = 0;
    if (this.protocol === protocolTcp) {
      if (this.length < at - this.offset + 20) {
        return 'short';
      }
      this.tcpFlags = this.byte(at + 13);
    }
    return 'ok';
  }

  get source(): Uint8Array {
    return this.buffer.slice(this.sourceOffset, this.sourceOffset + this.addressBytes);
  }

  get destination(): Uint8Array {
    return this.buffer.slice(this.destinationOffset, this.destinationOffset + this.addressBytes);
  }
}
