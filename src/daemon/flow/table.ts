import { delta, fold, sumWords } from '../packet/checksum.ts';
import type { PacketView } from '../packet/view.ts';
import type { Carrier } from './carrier.ts';

export type FlowState = 'dialing' | 'open' | 'closing';

/**
 * One TCP connection, in swap form: `source:sourcePort → destination:destinationPort` becomes `destination:peerPort →
 * own:listenerPort` and back. The peer port is the source port unless another flow has it at that destination.
 */
export interface Flow {
  readonly id: number;
  readonly source: Uint8Array;
  readonly sourcePort: number;
  readonly destination: Uint8Array;
  readonly destinationPort: number;
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
  nextOutward: Flow | undefined;
  nextBack: Flow | undefined;
}

const buckets = 1 << 15;
export const maxFlows = 50_000;

/** Flows by four-tuple, and back by (destination, peer port). Lookups allocate nothing. */
export class FlowTable {
  readonly #outward: (Flow | undefined)[] = new Array<Flow | undefined>(buckets);
  readonly #back: (Flow | undefined)[] = new Array<Flow | undefined>(buckets);
  readonly #byId = new Map<number, Flow>();
  #nextId = 1;

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
    const { buffer, sourceOffset, addressBytes, sourcePort, destinationPort } = view;
    let flow = this.#outward[hash(buffer, sourceOffset, 2 * addressBytes, sourcePort, destinationPort)];
    while (
      flow &&
      !(
        flow.sourcePort === sourcePort &&
        flow.destinationPort === destinationPort &&
        equalAt(buffer, view.destinationOffset, flow.destination) &&
        equalAt(buffer, sourceOffset, flow.source)
      )
    ) {
      flow = flow.nextOutward;
    }
    return flow;
  }

  /** The flow of a packet from the connector's listener, addressed to (destination, peer port). */
  findBack(view: PacketView): Flow | undefined {
    const { buffer, destinationOffset, addressBytes, destinationPort } = view;
    return this.#findBack(buffer, destinationOffset, addressBytes, destinationPort);
  }

  #findBack(buffer: Uint8Array, at: number, addressBytes: number, port: number): Flow | undefined {
    let flow = this.#back[hash(buffer, at, addressBytes, port, 0)];
    while (flow && !(flow.peerPort === port && equalAt(buffer, at, flow.destination))) {
      flow = flow.nextBack;
    }
    return flow;
  }

  /** Undefined when the table is full. */
  add(view: PacketView, carrier: Carrier, own: Uint8Array, listenerPort: number, nowMs: number): Flow | undefined {
    if (this.#byId.size >= maxFlows) {
      return undefined;
    }
    const { source, destination, sourcePort, destinationPort } = view;
    let peerPort = sourcePort;
    while (this.#findBack(destination, 0, destination.length, peerPort)) {
      peerPort = peerPort >= 65_535 ? 1_024 : peerPort + 1;
      if (peerPort === sourcePort) {
        return undefined;
      }
    }
    // Outward the source becomes the destination and the destination ours: in sum, the source becomes ours.
    const sums = { source: sumWords(source, 0, source.length), own: sumWords(own, 0, own.length) };
    const isOwn = equalAt(source, 0, own);
    const outwardAddressDelta = isOwn ? 0 : fold(delta(sums.source, sums.own));
    const backAddressDelta = isOwn ? 0 : fold(delta(sums.own, sums.source));
    const flow: Flow = {
      id: this.#nextId,
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
      nextOutward: undefined,
      nextBack: undefined,
    };
    this.#nextId = this.#nextId >= 0x7fffffff ? 1 : this.#nextId + 1;
    const outward = outwardBucket(flow);
    const back = backBucket(flow);
    flow.nextOutward = this.#outward[outward];
    this.#outward[outward] = flow;
    flow.nextBack = this.#back[back];
    this.#back[back] = flow;
    this.#byId.set(flow.id, flow);
    return flow;
  }

  remove(flow: Flow): void {
    if (this.#byId.delete(flow.id)) {
      unlink(this.#outward, outwardBucket(flow), flow, 'nextOutward');
      unlink(this.#back, backBucket(flow), flow, 'nextBack');
    }
  }
}

function outwardBucket({ source, destination, sourcePort, destinationPort }: Flow): number {
  return hash(destination, 0, destination.length, sourcePort, destinationPort, hashBytes(source, 0, source.length, 0));
}

function backBucket({ destination, peerPort }: Flow): number {
  return hash(destination, 0, destination.length, peerPort, 0);
}

function unlink(heads: (Flow | undefined)[], bucket: number, flow: Flow, next: 'nextOutward' | 'nextBack'): void {
  let at = heads[bucket];
  if (at === flow) {
    heads[bucket] = flow[next];
    return;
  }
  while (at) {
    if (at[next] === flow) {
      at[next] = flow[next];
      return;
    }
    at = at[next];
  }
}

function hashBytes(bytes: Uint8Array, from: number, length: number, seed: number): number {
  let value = seed;
  for (let at = from; at < from + length; at++) {
    value = Math.imul(value ^ (bytes[at] ?? 0), 0x01000193);
  }
  return value;
}

function hash(bytes: Uint8Array, from: number, length: number, portA: number, portB: number, seed = 0): number {
  const value = Math.imul(hashBytes(bytes, from, length, seed) ^ ((portA << 16) | portB), 0x85ebca6b);
  return (value ^ (value >>> 15)) & (buckets - 1);
}

function equalAt(bytes: Uint8Array, from: number, other: Uint8Array): boolean {
  for (let i = 0; i < other.length; i++) {
    if (bytes[from + i] !== other[i]) {
      return false;
    }
  }
  return true;
}
