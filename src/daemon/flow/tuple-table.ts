import { randomBytes } from 'node:crypto';
import type { PacketView } from '../packet/view.ts';

/** What a program's packets of one flow have in common. */
export interface Tuple<T> {
  readonly source: Uint8Array;
  readonly sourcePort: number;
  readonly destination: Uint8Array;
  readonly destinationPort: number;
  /** The chain of a bucket. */
  next: T | undefined;
}

const buckets = 1 << 15;
/** Nobody outside can aim at one bucket. */
const seed = randomBytes(4).readInt32LE();

/** Flows by four-tuple. Finding allocates nothing. */
export class TupleTable<T extends Tuple<T>> {
  readonly #heads: (T | undefined)[] = new Array<T | undefined>(buckets);

  /** The flow of the packet in view. */
  find(view: PacketView): T | undefined {
    const { buffer, sourceOffset, destinationOffset, addressBytes, sourcePort, destinationPort } = view;
    let flow =
      this.#heads[bucketOf(buffer, sourceOffset, destinationOffset, addressBytes, sourcePort, destinationPort)];
    while (
      flow &&
      !(
        flow.sourcePort === sourcePort &&
        flow.destinationPort === destinationPort &&
        flow.source.length === addressBytes &&
        equalAt(buffer, destinationOffset, flow.destination) &&
        equalAt(buffer, sourceOffset, flow.source)
      )
    ) {
      flow = flow.next;
    }
    return flow;
  }

  add(flow: T): void {
    const bucket = bucketOfTuple(flow);
    flow.next = this.#heads[bucket];
    this.#heads[bucket] = flow;
  }

  remove(flow: T): void {
    const bucket = bucketOfTuple(flow);
    let at = this.#heads[bucket];
    if (at === flow) {
      this.#heads[bucket] = flow.next;
    }
    while (at) {
      if (at.next === flow) {
        at.next = flow.next;
        break;
      }
      at = at.next;
    }
    flow.next = undefined;
  }
}

function bucketOfTuple<T>({ source, destination, sourcePort, destinationPort }: Tuple<T>): number {
  const mixed = hashBytes(destination, 0, destination.length, hashBytes(source, 0, source.length, seed));
  return bucketFrom(mixed, sourcePort, destinationPort);
}

function bucketOf(
  bytes: Uint8Array,
  sourceAt: number,
  destinationAt: number,
  length: number,
  sourcePort: number,
  destinationPort: number,
): number {
  const mixed = hashBytes(bytes, destinationAt, length, hashBytes(bytes, sourceAt, length, seed));
  return bucketFrom(mixed, sourcePort, destinationPort);
}

/** For other tables of flows: the bucket of an address and a port. */
export function bucketOfEnd(bytes: Uint8Array, at: number, length: number, port: number): number {
  return bucketFrom(hashBytes(bytes, at, length, seed), port, 0);
}

export const bucketCount = buckets;

function bucketFrom(mixed: number, portA: number, portB: number): number {
  const value = Math.imul(mixed ^ ((portA << 16) | portB), 0x85ebca6b);
  return (value ^ (value >>> 15)) & (buckets - 1);
}

function hashBytes(bytes: Uint8Array, from: number, length: number, start: number): number {
  let value = start;
  for (let at = from; at < from + length; at++) {
    value = Math.imul(value ^ (bytes[at] ?? 0), 0x01000193);
  }
  return value;
}

export function equalAt(bytes: Uint8Array, from: number, other: Uint8Array): boolean {
  for (let i = 0; i < other.length; i++) {
    if (bytes[from + i] !== other[i]) {
      return false;
    }
  }
  return true;
}
