import type { DialResult } from '../../protocol/index.ts';
import {
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

/** What a program is told by packets of our own: refusals, errors, datagrams. */
export class Replies {
  readonly #writer: PacketWriter;
  readonly #quoted = new PacketView();

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

  datagram(ends: UdpEnds, payload: Uint8Array): void {
    const at = this.#writer.reserve(maxHeaderBytes + payload.length);
    this.#writer.commit(buildUdp({ bytes: this.#writer.buffer, at }, ends, payload));
  }
}
