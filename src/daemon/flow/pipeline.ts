import type { Clock, Disposable } from '../../base/index.ts';
import type { DialFrame, DialResult } from '../../protocol/index.ts';
import { isEchoRequest } from '../packet/build.ts';
import { PacketView, protocolTcp, protocolUdp, tcpFlag } from '../packet/view.ts';
import { PacketWriter } from '../packet/writer.ts';
import { offloadHeaderBytes, type PacketBatch, type TunDevice } from '../tun/device.ts';
import { type Carrier, carrierOf } from './carrier.ts';
import { Drops } from './drops.ts';
import { Echoes } from './echo.ts';
import { Fragments } from './fragments.ts';
import { Gate } from './gate.ts';
import { rewriteBack, rewriteOutward } from './nat.ts';
import { Replies } from './replies.ts';
import { Shortcuts } from './shortcuts.ts';
import { type Flow, FlowTable } from './table.ts';
import { equalAt } from './tuple-table.ts';
import { UdpFlows } from './udp.ts';

export interface PipelineDeps {
  readonly device: TunDevice;
  readonly clock: Clock;
  /** After how many packets a flow goes the short way, where the device has one; a few unless given. */
  readonly shortcutAfter?: number;
}

/** A closed flow stays until late segments have passed. */
const lingerMs = 1_500;
/** Without a stream and without a packet: longer than the kernel waits between two attempts to deliver. */
const orphanMs = 130_000;
const sweepMs = 1_000;
const batchPackets = 32;

/**
 * Every packet's way: parse, own reply or new flow, the gate that holds a SYN until the connector has dialled, and the
 * rewriting. It runs to completion for a batch and throws nothing.
 */
export class Pipeline implements Disposable {
  readonly #deps: PipelineDeps;
  readonly #view = new PacketView();
  readonly #inner = new PacketView();
  readonly #drops = new Drops();
  readonly #table = new FlowTable();
  readonly #shortcuts: Shortcuts;
  readonly #writer: PacketWriter;
  readonly #replies: Replies;
  readonly #gate: Gate;
  readonly #udp: UdpFlows;
  readonly #echoes: Echoes;
  readonly #fragments: Fragments;
  /** Where in the device's batch the packets are that go back rewritten in place. */
  readonly #rewritten = new Int32Array(2 * batchPackets);
  readonly #sweeper: Disposable;
  #carriers: readonly Carrier[] = [];
  #nowMs = 0;

  constructor(deps: PipelineDeps) {
    this.#deps = deps;
    const drops = this.#drops;
    this.#shortcuts = new Shortcuts(deps.device.shortcut, deps.shortcutAfter);
    this.#writer = new PacketWriter(deps.device, (count) => drops.add('device-full', count));
    this.#replies = new Replies(this.#writer);
    const common = {
      carrierOf: (destination: Uint8Array) => carrierOf(this.#carriers, destination),
      replies: this.#replies,
      writer: this.#writer,
      drops,
    };
    this.#gate = new Gate({ ...common, table: this.#table });
    this.#udp = new UdpFlows(common);
    this.#echoes = new Echoes(common);
    this.#fragments = new Fragments(drops);
    this.#sweeper = deps.clock.every(sweepMs, () => this.#sweep());
  }

  start(): void {
    this.#deps.device.start((batch) => this.#batch(batch));
  }

  /** The first one first: of two that carry a destination it is asked. */
  set carriers(carriers: readonly Carrier[]) {
    this.#carriers = carriers;
  }

  /** `short`: of TCP's, those whose packets do not come here. */
  get flows(): { readonly tcp: number; readonly udp: number; readonly halfOpen: number; readonly short: number } {
    return { tcp: this.#table.size, udp: this.#udp.size, halfOpen: this.#gate.size, short: this.#shortcuts.size };
  }

  get drops(): Readonly<Record<string, number>> {
    return this.#drops.counts;
  }

  dispose(): void {
    void this.#sweeper.dispose();
  }

  /** A connector's answers and datagrams. Unknown ids are late, and no error. `flush` sends what comes of them. */
  receive(carrier: Carrier, frame: DialFrame): void {
    this.#nowMs = this.#deps.clock.nowMs();
    if (frame.type === 'answer') {
      this.#answer(carrier, frame.id, frame.result);
    } else if (frame.type === 'datagram') {
      this.#udp.back(carrier, frame.id, frame.payload, this.#nowMs);
    } else if (frame.type === 'close') {
      this.#udp.close(carrier, frame.id);
      this.#ended(carrier, frame.id);
    }
  }

  flush(): void {
    this.#writer.flush();
  }

  /** The connector is gone. What waits for it is refused; what is open ends as the kernel ends its sockets. */
  forget(carrier: Carrier): void {
    this.#gate.forgetAll(carrier);
    this.#udp.forgetAll(carrier);
    this.#echoes.forgetAll(carrier);
    for (const flow of this.#table.all()) {
      if (flow.carrier === carrier) {
        this.#orphan(flow);
      }
    }
    this.flush();
  }

  #batch({ buffer, lengths, count }: PacketBatch): void {
    this.#nowMs = this.#deps.clock.nowMs();
    let rewritten = 0;
    const slot = buffer.length / lengths.length;
    for (let i = 0; i < count; i++) {
      const at = i * slot;
      const length = lengths[i] ?? 0;
      if (this.#packet(buffer, at, length)) {
        this.#rewritten[2 * rewritten] = at;
        this.#rewritten[2 * rewritten + 1] = length;
        rewritten++;
      }
      if (rewritten === batchPackets) {
        this.#writeBack(buffer, rewritten);
        rewritten = 0;
      }
    }
    this.#writeBack(buffer, rewritten);
    this.#writer.flush();
  }

  #writeBack(buffer: Uint8Array, count: number): void {
    if (count > 0) {
      const failed = this.#deps.device.write(buffer, this.#rewritten, count);
      if (failed > 0) {
        this.#drops.add('device-full', failed);
      }
    }
  }

  /** True when the packet was rewritten in place and goes back to the device. */
  #packet(buffer: Uint8Array, at: number, length: number): boolean {
    const view = this.#view;
    const verdict = view.parse(buffer, at + offloadHeaderBytes, length - offloadHeaderBytes);
    if (verdict === 'fragment') {
      this.#fragment(view);
      return false;
    }
    if (verdict !== 'ok') {
      this.#drops.add(verdict);
      return false;
    }
    if (view.protocol !== protocolTcp) {
      this.#connectionless(view);
      return false;
    }
    // Bit 0 of the offload header's flags: the checksum field holds the sum of the pseudo header only.
    const partial = ((buffer[at] ?? 0) & 1) === 1;
    return this.#isFromListener(view) ? this.#back(view, partial) : this.#outward(view, partial, at);
  }

  #isFromListener({ buffer, addressBytes, sourcePort, sourceOffset }: PacketView): boolean {
    for (const carrier of this.#carriers) {
      const own = addressBytes === 4 ? carrier.address4 : carrier.address6;
      const port = addressBytes === 4 ? carrier.port4 : carrier.port6;
      if (own && sourcePort === port && equalAt(buffer, sourceOffset, own)) {
        return true;
      }
    }
    return false;
  }

  #fragment(view: PacketView): void {
    const whole = this.#fragments.add(view, this.#nowMs);
    if (whole && view.parse(whole, 0, whole.length) === 'ok' && view.protocol !== protocolTcp) {
      this.#connectionless(view);
    }
  }

  #connectionless(view: PacketView): void {
    if (view.protocol === protocolUdp) {
      this.#udp.outward(view, this.#nowMs);
    } else if (isEchoRequest(view)) {
      this.#echoes.request(view, this.#nowMs);
    } else if (!this.#udp.portClosed(view, this.#inner)) {
      this.#drops.add('protocol');
    }
  }

  #outward(view: PacketView, partial: boolean, headerAt: number): boolean {
    let flow = this.#table.findOutward(view);
    if ((view.tcpFlags & (tcpFlag.syn | tcpFlag.ack)) === tcpFlag.syn) {
      if (flow?.state === 'dialing') {
        this.#drops.add('retransmitted-syn');
        return false;
      }
      if (flow?.state === 'closing') {
        // The program reuses its port: a new connection.
        this.#table.remove(flow);
        flow = undefined;
      }
      if (!flow) {
        this.#gate.hold(view, this.#carriers, headerAt, this.#nowMs);
        return false;
      }
    } else if (!flow || flow.state === 'dialing') {
      if (!flow) {
        this.#unknown(view);
      }
      return false;
    }
    rewriteOutward(view, flow, partial);
    this.#track(flow, view.tcpFlags, 1);
    return true;
  }

  #back(view: PacketView, partial: boolean): boolean {
    const flow = this.#table.findBack(view);
    if (!flow) {
      this.#unknown(view);
      return false;
    }
    rewriteBack(view, flow, partial);
    this.#track(flow, view.tcpFlags, 2);
    return true;
  }

  /** Connections of before a restart end at once, not after their own time-out. */
  #unknown(view: PacketView): void {
    this.#replies.reset(view);
    this.#drops.add('unknown-flow');
  }

  #track(flow: Flow, flags: number, side: 1 | 2): void {
    flow.lastSeenMs = this.#nowMs;
    if (flags & tcpFlag.rst) {
      this.#closing(flow);
    } else if (flags & tcpFlag.fin) {
      flow.finished |= side;
      if (flow.finished === 3) {
        this.#closing(flow);
      }
    } else {
      this.#shortcuts.count(flow);
    }
  }

  #closing(flow: Flow): void {
    flow.state = 'closing';
    this.#shortcuts.end(flow);
  }

  #answer(carrier: Carrier, id: number, result: DialResult): void {
    const isTaken = this.#udp.answer(carrier, id, result) || this.#echoes.answer(carrier, id, result, this.#nowMs);
    if (!isTaken) {
      this.#gate.answer(carrier, id, result, this.#nowMs);
    }
  }

  /** The connector's stream is over. The kernel may still have bytes for a program that reads slowly. */
  #ended(carrier: Carrier, id: number): void {
    const flow = this.#table.byId(id);
    if (flow?.carrier === carrier) {
      this.#orphan(flow);
    }
  }

  /** From now on its packets say how long it is of use. */
  #orphan(flow: Flow): void {
    flow.isOrphan = true;
    if (flow.isShort) {
      flow.lastSeenMs = this.#deps.clock.nowMs();
      this.#shortcuts.end(flow);
    }
  }

  #isOver({ state, isOrphan, lastSeenMs }: Flow, now: number): boolean {
    const age = now - lastSeenMs;
    return (state === 'closing' && age > lingerMs) || (isOrphan && age > orphanMs);
  }

  #sweep(): void {
    const now = this.#deps.clock.nowMs();
    for (const flow of this.#table.all()) {
      if (this.#isOver(flow, now)) {
        this.#table.remove(flow);
      }
    }
    this.#gate.sweep(now);
    this.#udp.sweep(now);
    this.#echoes.sweep(now);
    this.#fragments.sweep(now);
    this.flush();
  }
}
