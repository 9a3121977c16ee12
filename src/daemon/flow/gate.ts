import type { DialResult } from '../../protocol/index.ts';
import { PacketView } from '../packet/view.ts';
import type { PacketWriter } from '../packet/writer.ts';
import { offloadHeaderBytes } from '../tun/device.ts';
import { type Carrier, carrierOf } from './carrier.ts';
import type { Drops } from './drops.ts';
import { rewriteOutward } from './nat.ts';
import type { Replies } from './replies.ts';
import type { Flow, FlowTable } from './table.ts';
import { equalAt } from './tuple-table.ts';

export interface GateDeps {
  readonly table: FlowTable;
  readonly replies: Replies;
  readonly writer: PacketWriter;
  readonly drops: Drops;
}

interface Held {
  readonly flow: Flow;
  readonly packet: Uint8Array;
  readonly header: Uint8Array;
  readonly sinceMs: number;
}

/** A SYN flood stops here, not at the cluster. */
export const maxHalfOpen = 1_024;
/** Of these, what one address and port may have: one that never answers leaves places for the others. */
export const maxHalfOpenOfOne = 768;
/** When all places are taken, a dial that has waited this long makes room: its program asks again within a second. */
const patienceMs = 500;
/** A program that never hears an answer retries its SYN for two minutes; the dial has ended long before. */
const dialLimitMs = 20_000;

/** The gate: a SYN waits while the connector dials, so that refused looks refused and silence is silence. */
export class Gate {
  readonly #deps: GateDeps;
  readonly #held = new Map<number, Held>();
  readonly #view = new PacketView();

  constructor(deps: GateDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#held.size;
  }

  /** A SYN of no known flow. `headerAt` is where its offload header begins. */
  hold(view: PacketView, carriers: readonly Carrier[], headerAt: number, nowMs: number): void {
    const { table, replies, drops } = this.#deps;
    const carrier = carrierOf(carriers, view.destination);
    const isV4 = view.addressBytes === 4;
    const own = isV4 ? carrier?.address4 : carrier?.address6;
    const listener = isV4 ? carrier?.port4 : carrier?.port6;
    if (!carrier) {
      replies.unreachable(view, 'host');
      drops.add('no-carrier');
      return;
    }
    if (!own || !listener) {
      drops.add('no-listener');
      return;
    }
    if (!this.#hasRoom(view, nowMs)) {
      drops.add('half-open-full');
      return;
    }
    const flow = table.add(view, carrier, own, listener, nowMs);
    if (!flow) {
      drops.add('table-full');
      return;
    }
    const { id, source, sourcePort, destination, destinationPort, peerPort } = flow;
    const question = { id, source, sourcePort, destination, destinationPort, peerPort };
    if (!carrier.ask({ type: 'dial', protocol: 'tcp', ...question })) {
      table.remove(flow);
      replies.unreachable(view, 'host');
      drops.add('connector-full');
      return;
    }
    const header = view.buffer.slice(headerAt, headerAt + offloadHeaderBytes);
    this.#held.set(id, { flow, packet: view.packet, header, sinceMs: nowMs });
  }

  /** The connector has dialled: the SYN goes on, or its sender is told. */
  answer(carrier: Carrier, id: number, result: DialResult, nowMs: number): void {
    const { table, replies, writer } = this.#deps;
    const held = this.#held.get(id);
    if (held?.flow.carrier !== carrier) {
      return;
    }
    this.#held.delete(id);
    const { flow, packet, header } = held;
    if (result !== 'ok') {
      table.remove(flow);
      replies.failure(packet, result);
      return;
    }
    flow.state = 'open';
    flow.lastSeenMs = nowMs;
    const at = writer.reserve(packet.length);
    writer.buffer.set(packet, at);
    writer.buffer.set(header, at - offloadHeaderBytes);
    this.#view.parse(writer.buffer, at, packet.length);
    rewriteOutward(this.#view, flow, ((header[0] ?? 0) & 1) === 1);
    writer.commit(packet.length);
  }

  forgetAll(carrier: Carrier): void {
    for (const held of this.#held.values()) {
      if (held.flow.carrier === carrier) {
        this.#end(held, 'unreachable');
      }
    }
  }

  sweep(nowMs: number): void {
    for (const held of this.#held.values()) {
      if (nowMs - held.sinceMs > dialLimitMs) {
        this.#giveUp(held);
      }
    }
  }

  /** The oldest may have to go for it: a scan of places that are not there must not close the gate for all. */
  #hasRoom(view: PacketView, nowMs: number): boolean {
    // Below it no place can have more: what is usual is not counted.
    if (this.#held.size < maxHalfOpenOfOne) {
      return true;
    }
    if (this.#countTo(view) >= maxHalfOpenOfOne) {
      return false;
    }
    if (this.#held.size < maxHalfOpen) {
      return true;
    }
    const [oldest] = this.#held.values();
    if (!oldest || nowMs - oldest.sinceMs < patienceMs) {
      return false;
    }
    this.#giveUp(oldest);
    return true;
  }

  #countTo({ buffer, addressBytes, destinationOffset, destinationPort }: PacketView): number {
    let count = 0;
    for (const { flow } of this.#held.values()) {
      const isAlike = flow.destinationPort === destinationPort && flow.destination.length === addressBytes;
      if (isAlike && equalAt(buffer, destinationOffset, flow.destination)) {
        count++;
      }
    }
    return count;
  }

  #giveUp(held: Held): void {
    this.#end(held, 'timeout');
    held.flow.carrier.ask({ type: 'close', id: held.flow.id });
  }

  #end({ flow, packet }: Held, result: DialResult): void {
    this.#held.delete(flow.id);
    this.#deps.table.remove(flow);
    this.#deps.replies.failure(packet, result);
  }
}
