import type { Clock, Disposable } from '../../base/index.ts';
import { equalBytes } from '../../base/index.ts';
import type { DialFrame, DialResult } from '../../protocol/index.ts';
import { buildReset, buildUnreachable } from '../packet/build.ts';
import { adjust, adjustPartial } from '../packet/checksum.ts';
import { PacketView, protocolTcp, tcpFlag } from '../packet/view.ts';
import { offloadHeaderBytes, type PacketBatch, type TunDevice } from '../tun/device.ts';
import { type Carrier, carrierOf } from './carrier.ts';
import { type Flow, FlowTable } from './table.ts';
import { UdpFlows } from './udp.ts';

export interface PipelineDeps {
  readonly device: TunDevice;
  readonly clock: Clock;
}

/** A closed flow stays until late segments have passed. */
const lingerMs = 3_000;
/** A program that never hears an answer retries its SYN for two minutes; the dial has ended long before. */
const dialLimitMs = 20_000;
const sweepMs = 1_000;

export type DropReason =
  | 'short'
  | 'version'
  | 'fragment'
  | 'protocol'
  | 'no-listener'
  | 'unknown-flow'
  | 'table-full'
  | 'retransmitted-syn'
  | 'connector-full'
  | 'netbios'
  | 'device-full';

/**
 * Every packet's way: parse, own reply or new flow, the gate that holds a SYN until the connector has dialled, and the
 * rewriting. It runs to completion for a batch and throws nothing.
 */
export class Pipeline implements Disposable {
  readonly #deps: PipelineDeps;
  readonly #view = new PacketView();
  readonly #table = new FlowTable();
  readonly #held = new Map<number, { packet: Uint8Array; partial: boolean; header: Uint8Array }>();
  readonly #udp: UdpFlows;
  readonly #descriptors = new Int32Array(2 * 64);
  readonly #sweeper: Disposable;
  readonly drops: Record<string, number> = {};
  #carriers: readonly Carrier[] = [];

  constructor(deps: PipelineDeps) {
    this.#deps = deps;
    this.#udp = new UdpFlows({
      clock: deps.clock,
      carrierOf: (destination) => carrierOf(this.#carriers, destination),
      send: (packet) => this.#send(packet),
      refuse: (packet, result) => this.#sendFailure(packet, result),
      drop: (reason) => this.#drop(reason),
    });
    this.#sweeper = deps.clock.every(sweepMs, () => this.#sweep());
  }

  start(): void {
    this.#deps.device.start((batch) => this.#batch(batch));
  }

  /** The first one first: of two that carry a destination it is asked. */
  set carriers(carriers: readonly Carrier[]) {
    this.#carriers = carriers;
  }

  get flows(): { readonly tcp: number; readonly udp: number } {
    return { tcp: this.#table.size, udp: this.#udp.size };
  }

  dispose(): void {
    void this.#sweeper.dispose();
  }

  /** The connector's answers and datagrams. Unknown ids are late, and no error. */
  receive(carrier: Carrier, frame: DialFrame): void {
    if (frame.type === 'answer') {
      this.#answer(carrier, frame.id, frame.result);
    } else if (frame.type === 'datagram') {
      this.#udp.back(carrier, frame.id, frame.payload);
    } else if (frame.type === 'close') {
      this.#udp.close(carrier, frame.id);
    }
  }

  /** The connector is gone. What waits for it is refused; what is open lingers, for the kernel's last segments. */
  forget(carrier: Carrier): void {
    for (const flow of this.#table.all()) {
      if (flow.carrier === carrier) {
        const held = this.#held.get(flow.id);
        if (held) {
          this.#held.delete(flow.id);
          this.#table.remove(flow);
          this.#sendFailure(held.packet, 'unreachable');
        } else {
          flow.state = 'closing';
          flow.lastSeenMs = this.#deps.clock.nowMs();
        }
      }
    }
    this.#udp.forgetAll(carrier);
  }

  #drop(reason: DropReason): false {
    this.drops[reason] = (this.drops[reason] ?? 0) + 1;
    return false;
  }

  #batch({ buffer, lengths, count }: PacketBatch): void {
    let rewritten = 0;
    const slot = buffer.length / lengths.length;
    for (let i = 0; i < count; i++) {
      const at = i * slot;
      const length = lengths[i] ?? 0;
      if (this.#packet(buffer, at, length)) {
        this.#descriptors[2 * rewritten] = at;
        this.#descriptors[2 * rewritten + 1] = length;
        rewritten++;
      }
    }
    if (rewritten > 0) {
      const failed = this.#deps.device.write(buffer, this.#descriptors, rewritten);
      if (failed > 0) {
        this.drops['device-full'] = (this.drops['device-full'] ?? 0) + failed;
      }
    }
  }

  /** True when the packet was rewritten in place and goes back to the device. */
  #packet(buffer: Uint8Array, at: number, length: number): boolean {
    const view = this.#view;
    const verdict = view.parse(buffer, at + offloadHeaderBytes, length - offloadHeaderBytes);
    if (verdict !== 'ok') {
      return this.#drop(verdict);
    }
    // Bit 0 of the offload header's flags: the checksum field holds the sum of the pseudo header only.
    const partial = ((buffer[at] ?? 0) & 1) === 1;
    if (view.protocol !== protocolTcp) {
      this.#udp.outward(view);
      return false;
    }
    for (const carrier of this.#carriers) {
      const isV4 = view.addressBytes === 4;
      const own = isV4 ? carrier.address4 : carrier.address6;
      const port = isV4 ? carrier.port4 : carrier.port6;
      if (own && view.sourcePort === port && equalsAt(buffer, view.sourceOffset, own)) {
        return this.#back(view, partial);
      }
    }
    return this.#outward(view, partial, at);
  }

  #outward(view: PacketView, partial: boolean, at: number): boolean {
    let flow = this.#table.findOutward(view);
    const isSyn = (view.tcpFlags & (tcpFlag.syn | tcpFlag.ack)) === tcpFlag.syn;
    if (isSyn) {
      if (flow?.state === 'dialing') {
        return this.#drop('retransmitted-syn');
      }
      if (flow?.state === 'closing') {
        // The program reuses its port: a new connection.
        this.#table.remove(flow);
        flow = undefined;
      }
      if (!flow) {
        return this.#hold(view, partial, at);
      }
    } else if (!flow) {
      this.#refuse(view);
      return this.#drop('unknown-flow');
    }
    if (flow.state === 'dialing') {
      return false;
    }
    this.#rewriteOutward(view, flow, partial);
    this.#track(flow, view.tcpFlags, 1);
    return true;
  }

  #back(view: PacketView, partial: boolean): boolean {
    const flow = this.#table.findBack(view);
    if (!flow) {
      this.#refuse(view);
      return this.#drop('unknown-flow');
    }
    const { buffer, sourceOffset, destinationOffset, transportOffset } = view;
    const { tcpFlags } = view;
    buffer.set(flow.destination, sourceOffset);
    buffer.set(flow.source, destinationOffset);
    setPorts(buffer, transportOffset, flow.destinationPort, flow.sourcePort);
    fixSums(view, partial, flow.backAddressDelta, flow.backDelta);
    this.#track(flow, tcpFlags, 2);
    return true;
  }

  #rewriteOutward(view: PacketView, flow: Flow, partial: boolean): void {
    const { buffer, sourceOffset, destinationOffset, transportOffset } = view;
    buffer.set(flow.destination, sourceOffset);
    buffer.set(flow.listener, destinationOffset);
    setPorts(buffer, transportOffset, flow.peerPort, flow.listenerPort);
    fixSums(view, partial, flow.outwardAddressDelta, flow.outwardDelta);
  }

  #track(flow: Flow, flags: number, side: 1 | 2): void {
    flow.lastSeenMs = this.#deps.clock.nowMs();
    if (flags & tcpFlag.rst) {
      flow.state = 'closing';
    } else if (flags & tcpFlag.fin) {
      flow.finished |= side;
      if (flow.finished === 3) {
        flow.state = 'closing';
      }
    }
  }

  /** The gate: the SYN waits while the connector dials. */
  #hold(view: PacketView, partial: boolean, at: number): false {
    const carrier = carrierOf(this.#carriers, view.destination);
    const own = view.addressBytes === 4 ? carrier?.address4 : carrier?.address6;
    const listener = view.addressBytes === 4 ? carrier?.port4 : carrier?.port6;
    if (!carrier || !own || !listener) {
      return this.#drop('no-listener');
    }
    const flow = this.#table.add(view, carrier, own, listener, this.#deps.clock.nowMs());
    if (!flow) {
      return this.#drop('table-full');
    }
    const { id, source, sourcePort, destination, destinationPort, peerPort } = flow;
    const packet = view.buffer.slice(view.offset, view.offset + view.length);
    const header = view.buffer.slice(at, at + offloadHeaderBytes);
    this.#held.set(id, { packet, partial, header });
    if (
      !carrier.ask({ type: 'dial', id, protocol: 'tcp', source, sourcePort, destination, destinationPort, peerPort })
    ) {
      this.#held.delete(id);
      this.#table.remove(flow);
      this.#send(buildUnreachable(packet, 'host'));
      return this.#drop('connector-full');
    }
    return false;
  }

  #answer(carrier: Carrier, id: number, result: DialResult): void {
    if (this.#udp.answer(carrier, id, result)) {
      return;
    }
    const flow = this.#table.byId(id);
    const held = this.#held.get(id);
    if (flow?.state !== 'dialing' || flow.carrier !== carrier || !held) {
      return;
    }
    this.#held.delete(id);
    if (result === 'ok') {
      flow.state = 'open';
      flow.lastSeenMs = this.#deps.clock.nowMs();
      const view = this.#view;
      view.parse(held.packet, 0, held.packet.length);
      this.#rewriteOutward(view, flow, held.partial);
      this.#send(held.packet, held.header);
      return;
    }
    this.#table.remove(flow);
    this.#sendFailure(held.packet, result);
  }

  /** Refused looks refused, unreachable unreachable, and what hangs looks like silence. */
  #sendFailure(packet: Uint8Array, result: DialResult): void {
    if (result === 'refused') {
      const isTcp = packet[(packet[0] ?? 0) >>> 4 === 4 ? 9 : 6] === protocolTcp;
      this.#send(isTcp ? buildReset(packet) : buildUnreachable(packet, 'port'));
    } else if (result === 'unreachable') {
      this.#send(buildUnreachable(packet, 'host'));
    } else if (result === 'prohibited') {
      this.#send(buildUnreachable(packet, 'prohibited'));
    }
  }

  #refuse(view: PacketView): void {
    this.#send(buildReset(view.buffer.slice(view.offset, view.offset + view.length)));
  }

  /** Writes a packet of ours, with an empty offload header unless one is given. */
  #send(packet: Uint8Array | undefined, header?: Uint8Array): void {
    if (!packet) {
      return;
    }
    const framed = new Uint8Array(offloadHeaderBytes + packet.length);
    framed.set(packet, offloadHeaderBytes);
    if (header) {
      framed.set(header);
    }
    this.#deps.device.write(framed, Int32Array.of(0, framed.length), 1);
  }

  #sweep(): void {
    const now = this.#deps.clock.nowMs();
    for (const flow of this.#table.all()) {
      const age = now - flow.lastSeenMs;
      if ((flow.state === 'closing' && age > lingerMs) || (flow.state === 'dialing' && age > dialLimitMs)) {
        this.#held.delete(flow.id);
        this.#table.remove(flow);
      }
    }
    this.#udp.sweep();
  }
}

function setPorts(buffer: Uint8Array, at: number, source: number, destination: number): void {
  buffer[at] = source >>> 8;
  buffer[at + 1] = source & 0xff;
  buffer[at + 2] = destination >>> 8;
  buffer[at + 3] = destination & 0xff;
}

/** Swapped addresses leave sums as they are; ports do not count in an offloaded packet's field. */
function fixSums(view: PacketView, partial: boolean, addressDelta: number, fullDelta: number): void {
  const { buffer, offset, transportOffset, addressBytes } = view;
  const field = transportOffset + 16;
  if (addressDelta !== 0 && addressBytes === 4) {
    adjust(buffer, offset + 10, addressDelta);
  }
  if (!partial) {
    adjust(buffer, field, fullDelta);
  } else if (addressDelta !== 0) {
    adjustPartial(buffer, field, addressDelta);
  }
}

function equalsAt(buffer: Uint8Array, at: number, address: Uint8Array): boolean {
  return equalBytes(buffer.subarray(at, at + address.length), address);
}
