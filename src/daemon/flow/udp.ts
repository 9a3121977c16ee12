import type { DialResult } from '../../protocol/index.ts';
import { maxUdpPayload } from '../packet/build.ts';
import { type PacketView, protocolUdp } from '../packet/view.ts';
import type { Carrier } from './carrier.ts';
import type { Drops } from './drops.ts';
import type { Replies } from './replies.ts';
import { equalAt, type Tuple, TupleTable } from './tuple-table.ts';

export interface UdpDeps {
  readonly carrierOf: (destination: Uint8Array) => Carrier | undefined;
  readonly replies: Replies;
  readonly drops: Drops;
}

interface UdpFlow extends Tuple<UdpFlow> {
  readonly id: number;
  readonly carrier: Carrier;
  /** The first packet's beginning, for an ICMP error about it. */
  readonly first: Uint8Array;
  state: 'dialing' | 'open';
  waiting: Uint8Array[];
  lastSeenMs: number;
}

export const maxUdpFlows = 10_000;
const udpIdleMs = 60_000;
const maxWaitingDatagrams = 64;
const maxWaitingBytes = 256 * 1024;
/** Ids of UDP flows: TCP's are below, echoes above. */
const firstId = 0x80000001;
const lastId = 0xbfffffff;
/** RFC 792 and RFC 4443: destination unreachable. */
const unreachableType = { 4: 3, 16: 1 } as const;

/** UDP: one flow a four-tuple, datagrams over the dial channel, gone after a minute of silence. */
export class UdpFlows {
  readonly #deps: UdpDeps;
  readonly #table = new TupleTable<UdpFlow>();
  readonly #byId = new Map<number, UdpFlow>();
  #nextId = firstId;

  constructor(deps: UdpDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** A packet from a program. */
  outward(view: PacketView, nowMs: number): void {
    const { drops } = this.#deps;
    // NetBIOS broadcasts of the desktop have no business in a cluster.
    if (view.destinationPort >= 137 && view.destinationPort <= 139) {
      drops.add('netbios');
      return;
    }
    const { transportOffset } = view;
    const length = view.word(transportOffset + 4);
    if (length < 8 || length > view.transportLength) {
      drops.add('short');
      return;
    }
    const flow = this.#table.find(view) ?? this.#open(view, nowMs);
    if (!flow) {
      return;
    }
    flow.lastSeenMs = nowMs;
    const payload = view.buffer.subarray(transportOffset + 8, transportOffset + length);
    if (flow.state === 'open') {
      if (!flow.carrier.ask({ type: 'datagram', id: flow.id, payload })) {
        drops.add('connector-full');
      }
    } else if (flow.waiting.length < maxWaitingDatagrams && sizeOf(flow.waiting) + payload.length <= maxWaitingBytes) {
      flow.waiting.push(Uint8Array.from(payload));
    } else {
      drops.add('connector-full');
    }
  }

  /** True when the id is one of a flow here. */
  answer(carrier: Carrier, id: number, result: DialResult): boolean {
    const flow = this.#byId.get(id);
    if (flow?.carrier !== carrier) {
      return false;
    }
    if (result !== 'ok') {
      this.#forget(flow);
      this.#deps.replies.failure(flow.first, result);
      return true;
    }
    flow.state = 'open';
    for (const payload of flow.waiting) {
      if (!carrier.ask({ type: 'datagram', id, payload })) {
        this.#deps.drops.add('connector-full');
      }
    }
    flow.waiting = [];
    return true;
  }

  /** A datagram from the cluster. */
  back(carrier: Carrier, id: number, payload: Uint8Array, nowMs: number): void {
    const flow = this.#byId.get(id);
    if (flow?.carrier === carrier && payload.length <= maxUdpPayload(flow.source.length)) {
      flow.lastSeenMs = nowMs;
      const { source, sourcePort, destination, destinationPort } = flow;
      this.#deps.replies.datagram(
        { source: destination, sourcePort: destinationPort, destination: source, destinationPort: sourcePort },
        payload,
        !isOwn(flow),
      );
    }
  }

  /** The cluster's side is gone. A program that still sends is told so, as by a closed port. */
  close(carrier: Carrier, id: number): void {
    const flow = this.#byId.get(id);
    if (flow?.carrier === carrier) {
      this.#forget(flow);
    }
  }

  /** The system says that a program has closed its socket: an ICMP error about a datagram of ours. True if it was one. */
  portClosed(view: PacketView, inner: PacketView): boolean {
    const { buffer, transportOffset, addressBytes } = view;
    const type = addressBytes === 4 ? unreachableType[4] : unreachableType[16];
    if (view.byte(transportOffset) !== type) {
      return false;
    }
    const at = transportOffset + 8;
    // The quote may be cut: the lengths inside are those of the whole datagram, so only ports and addresses count.
    const header = addressBytes === 4 ? (view.byte(at) & 15) << 2 : 40;
    if (view.offset + view.length < at + header + 8) {
      return false;
    }
    inner.buffer = buffer;
    inner.addressBytes = addressBytes;
    // Swapped: our datagram went to the flow's source.
    inner.sourceOffset = at + (addressBytes === 4 ? 16 : 24);
    inner.destinationOffset = at + (addressBytes === 4 ? 12 : 8);
    inner.protocol = view.byte(at + (addressBytes === 4 ? 9 : 6));
    inner.sourcePort = view.word(at + header + 2);
    inner.destinationPort = view.word(at + header);
    const flow = inner.protocol === protocolUdp ? this.#table.find(inner) : undefined;
    if (flow) {
      this.#forget(flow);
      flow.carrier.ask({ type: 'close', id: flow.id });
    }
    return true;
  }

  forgetAll(carrier: Carrier): void {
    for (const flow of this.#byId.values()) {
      if (flow.carrier === carrier) {
        this.#forget(flow);
      }
    }
  }

  sweep(nowMs: number): void {
    for (const flow of this.#byId.values()) {
      if (nowMs - flow.lastSeenMs > udpIdleMs) {
        this.#forget(flow);
        flow.carrier.ask({ type: 'close', id: flow.id });
      }
    }
  }

  #open(view: PacketView, nowMs: number): UdpFlow | undefined {
    const { drops, carrierOf } = this.#deps;
    if (this.#byId.size >= maxUdpFlows) {
      drops.add('table-full');
      return undefined;
    }
    const { source, destination, sourcePort, destinationPort } = view;
    const carrier = carrierOf(destination);
    if (!carrier) {
      this.#deps.replies.unreachable(view, 'host');
      drops.add('no-carrier');
      return undefined;
    }
    const id = this.#freeId();
    const ends = { source, destination, sourcePort, destinationPort };
    if (!carrier.ask({ type: 'dial', id, protocol: 'udp', ...ends, peerPort: sourcePort })) {
      drops.add('connector-full');
      return undefined;
    }
    const flow: UdpFlow = {
      id,
      carrier,
      ...ends,
      first: view.quotable,
      state: 'dialing',
      waiting: [],
      lastSeenMs: nowMs,
      next: undefined,
    };
    this.#table.add(flow);
    this.#byId.set(id, flow);
    return flow;
  }

  #freeId(): number {
    do {
      this.#nextId = this.#nextId >= lastId ? firstId : this.#nextId + 1;
    } while (this.#byId.has(this.#nextId));
    return this.#nextId;
  }

  #forget(flow: UdpFlow): void {
    if (this.#byId.delete(flow.id)) {
      this.#table.remove(flow);
    }
  }
}

/** A program of this machine, not one whose packets it forwards. */
function isOwn({ carrier, source }: UdpFlow): boolean {
  const own = source.length === 4 ? carrier.address4 : carrier.address6;
  return own?.length === source.length && equalAt(source, 0, own);
}

function sizeOf(datagrams: readonly Uint8Array[]): number {
  return datagrams.reduce((sum, { length }) => sum + length, 0);
}
