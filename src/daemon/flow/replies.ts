import { randomBytes } from 'node:crypto';
import type { DialResult } from '../../protocol/index.ts';
import {
  buildFragment6,
  buildReset,
  buildUdp,
  buildUnreachable,
  maxHeaderBytes,
  type UdpEnds,
  type UnreachableWhy,
} from '../packet/build.ts';
import { PacketView, protocolTcp } from '../packet/view.ts';
import type { PacketWriter } from '../packet/writer.ts';

const maxQuotedBytes = 1_232;
/** IPv6's smallest MTU: what is not longer arrives everywhere. */
const minMtu6 = 1_280;
/** A fragment's payload: a multiple of eight, with both headers not above the MTU. */
const fragmentBytes6 = 1_232;
const maxPacketBytes = 65_575;

/** What a program is told by packets of our own: refusals, errors, datagrams. */
export class Replies {
  readonly #writer: PacketWriter;
  readonly #quoted = new PacketView();
  readonly #whole = new Uint8Array(maxPacketBytes);
  #fragmentId = randomBytes(4).readUInt32LE();

  constructor(writer: PacketWriter) {
    this.#writer = writer;
  }

  reset(view: PacketView): void {
    const at = this.#writer.reserve(maxHeaderBytes);
    const length = buildReset({ bytes: this.#writer.buffer, at }, view);
    if (length > 0) {
      this.#writer.commit(length);
    }
  }

  unreachable(view: PacketView, why: UnreachableWhy): void {
    const at = this.#writer.reserve(maxHeaderBytes + maxQuotedBytes);
    this.#writer.commit(buildUnreachable({ bytes: this.#writer.buffer, at }, view, why));
  }

  /** Refused looks refused, unreachable unreachable, and what hangs looks like silence. `packet` is the kept original. */
  failure(packet: Uint8Array, result: DialResult): void {
    const view = this.#quoted;
    if (view.parse(packet, 0, packet.length) !== 'ok') {
      return;
    }
    if (result === 'refused') {
      if (view.protocol === protocolTcp) {
        this.reset(view);
      } else {
        this.unreachable(view, 'port');
      }
    } else if (result === 'unreachable') {
      this.unreachable(view, 'host');
    } else if (result === 'prohibited') {
      this.unreachable(view, 'prohibited');
    }
  }

  /** `isForwarded`: the packet goes on to a container, and nobody on its way may cut it when it is IPv6. */
  datagram(ends: UdpEnds, payload: Uint8Array, isForwarded = false): void {
    if (isForwarded && ends.source.length === 16 && 48 + payload.length > minMtu6) {
      this.#fragments(ends, payload);
      return;
    }
    const at = this.#writer.reserve(maxHeaderBytes + payload.length);
    this.#writer.commit(buildUdp({ bytes: this.#writer.buffer, at }, ends, payload));
  }

  #fragments(ends: UdpEnds, payload: Uint8Array): void {
    const length = buildUdp({ bytes: this.#whole, at: 0 }, ends, payload);
    const whole = this.#whole.subarray(0, length);
    this.#fragmentId = (this.#fragmentId + 1) >>> 0;
    for (let from = 0; 40 + from < length; from += fragmentBytes6) {
      const piece = { id: this.#fragmentId, from, length: Math.min(fragmentBytes6, length - 40 - from) };
      const at = this.#writer.reserve(minMtu6);
      this.#writer.commit(buildFragment6({ bytes: this.#writer.buffer, at }, whole, piece));
    }
  }
}
