import { delta, fold, sumWords } from '../packet/checksum.ts';
import type { PacketView } from '../packet/view.ts';
import type { Carrier } from './carrier.ts';
import { bucketCount, bucketOfEnd, equalAt, type Tuple, TupleTable } from './tuple-table.ts';

export type FlowState = 'dialing' | 'open' | 'closing';

/**
 * One TCP connection, in swap form: `source:sourcePort → destination:destinationPort` becomes `destination:peerPort →
 * listener:listenerPort` and back. The peer port is the source port unless another flow has it at that destination.
 */
export interface Flow extends Tuple<Flow> {
  readonly id: number;
  readonly peerPort: number;
  readonly carrier: Carrier;
  readonly listener: Uint8Array;
  readonly listenerPort: number;
  /** What the rewriting adds to checksums, per direction; the address part is zero for the device's own address. */
  readonly outwardDelta: number;
  readonly backDelta: number;
  readonly outwardAddressDelta: number;
  readonly backAddressDelta: number;
  state: FlowState;
  /** Bit 1: the program has finished; bit 2: the listener has. */
  finished: number;
  lastSeenMs: number;
  /** The connector's stream is over. */
  isOrphan: boolean;
  /** That came through the daemon since it is open. */
  packets: number;
  /** The kernel rewrites it. */
  isShort: boolean;
  nextBack: Flow | undefined;
}

export const maxFlows = 50_000;
/** Ids of TCP flows; others on the dial channel are above. */
const maxId = 0x7fffffff;
const firstUserPort = 1_024;
const maxPortTries = 256;

/** Flows by four-tuple, and back by (destination, peer port). Lookups allocate nothing. */
export class FlowTable {
  readonly #outward = new TupleTable<Flow>();
  readonly #back: (Flow | undefined)[] = new Array<Flow | undefined>(bucketCount);
  readonly #byId = new Map<number, Flow>();
  #nextId = 1;
  #nextPort = firstUserPort;
  #lastDestination: Uint8Array = new Uint8Array(0);

  get size(): number {
    return this.#byId.size;
  }

  byId(id: number): Flow | undefined {
    return this.#byId.get(id);
  }

  all(): IterableIterator<Flow> {
    return this.#byId.values();
  }

  /** The flow of a packet from a program. */
  findOutward(view: PacketView): Flow | undefined {
    return this.#outward.find(view);
  }

  /** The flow of a packet from the connector's listener, addressed to (destination, peer port). */
  findBack(view: PacketView): Flow | undefined {
    const { buffer, destinationOffset, addressBytes, destinationPort } = view;
    return this.#findBack(buffer, destinationOffset, addressBytes, destinationPort);
  }

  #findBack(buffer: Uint8Array, at: number, addressBytes: number, port: number): Flow | undefined {
    let flow = this.#back[bucketOfEnd(buffer, at, addressBytes, port)];
    while (
      flow &&
      !(flow.peerPort === port && flow.destination.length === addressBytes && equalAt(buffer, at, flow.destination))
    ) {
      flow = flow.nextBack;
    }
    return flow;
  }

  /** Undefined when the table is full, or every port at that destination taken. */
  add(view: PacketView, carrier: Carrier, own: Uint8Array, listenerPort: number, nowMs: number): Flow | undefined {
    if (this.#byId.size >= maxFlows) {
      return undefined;
    }
    const { sourcePort, destinationPort } = view;
    const isOwn = view.addressBytes === own.length && equalAt(view.buffer, view.sourceOffset, own);
    const source = isOwn ? own : view.source;
    const destination = this.#destinationOf(view);
    const peerPort = this.#freePeerPort(destination, sourcePort);
    if (peerPort === undefined) {
      return undefined;
    }
    // Outward the source becomes the destination and the destination ours: in sum, the source becomes ours.
    const sums = { source: sumWords(source, 0, source.length), own: sumWords(own, 0, own.length) };
    const outwardAddressDelta = isOwn ? 0 : fold(delta(sums.source, sums.own));
    const backAddressDelta = isOwn ? 0 : fold(delta(sums.own, sums.source));
    const flow: Flow = {
      id: this.#freeId(),
      source,
      sourcePort,
      destination,
      destinationPort,
      peerPort,
      carrier,
      listener: own,
      listenerPort,
      outwardDelta: fold(outwardAddressDelta + delta(sourcePort, peerPort) + delta(destinationPort, listenerPort)),
      backDelta: fold(backAddressDelta + delta(listenerPort, destinationPort) + delta(peerPort, sourcePort)),
      outwardAddressDelta,
      backAddressDelta,
      state: 'dialing',
      finished: 0,
      lastSeenMs: nowMs,
      isOrphan: false,
      packets: 0,
      isShort: false,
      next: undefined,
      nextBack: undefined,
    };
    this.#outward.add(flow);
    const back = backBucket(flow);
    flow.nextBack = this.#back[back];
    this.#back[back] = flow;
    this.#byId.set(flow.id, flow);
    return flow;
  }

  remove(flow: Flow): void {
    if (this.#byId.delete(flow.id)) {
      this.#outward.remove(flow);
      this.#unlinkBack(flow);
    }
  }

  /** Many connections in a row go to one place: they share its address. */
  #destinationOf(view: PacketView): Uint8Array {
    if (
      this.#lastDestination.length !== view.addressBytes ||
      !equalAt(view.buffer, view.destinationOffset, this.#lastDestination)
    ) {
      this.#lastDestination = view.destination;
    }
    return this.#lastDestination;
  }

  /**
   * The source port itself, or one that no flow to that destination has. Those are given in turn, so that one comes back
   * only after the listener's TIME_WAIT of it is over.
   */
  #freePeerPort(destination: Uint8Array, sourcePort: number): number | undefined {
    let port = sourcePort;
    for (let tries = 0; tries < maxPortTries; tries++) {
      if (!this.#findBack(destination, 0, destination.length, port)) {
        return port;
      }
      this.#nextPort = this.#nextPort >= 65_535 ? firstUserPort : this.#nextPort + 1;
      port = this.#nextPort;
    }
    return undefined;
  }

  #freeId(): number {
    do {
      this.#nextId = this.#nextId >= maxId ? 1 : this.#nextId + 1;
    } while (this.#byId.has(this.#nextId));
    return this.#nextId;
  }

  #unlinkBack(flow: Flow): void {
    const bucket = backBucket(flow);
    let at = this.#back[bucket];
    if (at === flow) {
      this.#back[bucket] = flow.nextBack;
      return;
    }
    while (at) {
      if (at.nextBack === flow) {
        at.nextBack = flow.nextBack;
        return;
      }
      at = at.nextBack;
    }
  }
}

function backBucket({ destination, peerPort }: Flow): number {
  return bucketOfEnd(destination, 0, destination.length, peerPort);
}
