import type { Clock } from '../../base/index.ts';
import type { DialResult } from '../../protocol/index.ts';
import { buildUdp } from '../packet/build.ts';
import type { PacketView } from '../packet/view.ts';
import type { Carrier } from './carrier.ts';
import type { DropReason } from './pipeline.ts';

export interface UdpDeps {
  readonly clock: Clock;
  readonly carrierOf: (destination: Uint8Array) => Carrier | undefined;
  readonly send: (packet: Uint8Array) => void;
  /** Answers a packet as a failed dial is answered. */
  readonly refuse: (packet: Uint8Array, result: DialResult) => void;
  readonly drop: (reason: DropReason) => void;
}

interface UdpFlow {
  readonly id: number;
  readonly key: string;
  readonly carrier: Carrier;
  readonly source: Uint8Array;
  readonly sourcePort: number;
  readonly destination: Uint8Array;
  readonly destinationPort: number;
  /** The first packet, for an ICMP error about it. */
  readonly first: Uint8Array;
  state: 'dialing' | 'open';
  waiting: Uint8Array[];
  lastSeenMs: number;
}

export const maxUdpFlows = 10_000;
const udpIdleMs = 60_000;
const maxWaitingDatagrams = 64;
/** Ids above this are UDP's, below TCP's. */
const firstId = 0x80000001;

/** UDP: one flow a four-tuple, datagrams over the dial channel, gone after a minute of silence. */
export class UdpFlows {
  readonly #deps: UdpDeps;
  readonly #byKey = new Map<string, UdpFlow>();
  readonly #byId = new Map<number, UdpFlow>();
  #nextId = firstId;

  constructor(deps: UdpDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** A packet from a program. */
  outward(view: PacketView): void {
    const { buffer, sourceOffset, addressBytes, transportOffset, destinationPort } = view;
    // NetBIOS broadcasts of the desktop have no business in a cluster.
    if (destinationPort >= 137 && destinationPort <= 139) {
      this.#deps.drop('netbios');
      return;
    }
    const end = view.offset + view.length;
    if (end < transportOffset + 8) {
      this.#deps.drop('short');
      return;
    }
    const key = keyOf(buffer, sourceOffset, 2 * addressBytes, transportOffset);
    const payload = buffer.subarray(
      transportOffset + 8,
      Math.min(end, transportOffset + view.word(transportOffset + 4)),
    );
    const flow = this.#byKey.get(key) ?? this.#open(view, key);
    if (!flow) {
      return;
    }
    flow.lastSeenMs = this.#deps.clock.nowMs();
    if (flow.state === 'open') {
      if (!flow.carrier.ask({ type: 'datagram', id: flow.id, payload })) {
        this.#deps.drop('connector-full');
      }
    } else if (flow.waiting.length < maxWaitingDatagrams) {
      flow.waiting.push(Uint8Array.from(payload));
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
      this.#deps.refuse(flow.first, result);
      return true;
    }
    flow.state = 'open';
    for (const payload of flow.waiting) {
      carrier.ask({ type: 'datagram', id, payload });
    }
    flow.waiting = [];
    return true;
  }

  /** A datagram from the cluster. */
  back(carrier: Carrier, id: number, payload: Uint8Array): void {
    const flow = this.#byId.get(id);
    if (flow?.carrier === carrier) {
      flow.lastSeenMs = this.#deps.clock.nowMs();
      const { source, sourcePort, destination, destinationPort } = flow;
      this.#deps.send(
        buildUdp(
          { source: destination, sourcePort: destinationPort, destination: source, destinationPort: sourcePort },
          payload,
        ),
      );
    }
  }

  close(carrier: Carrier, id: number): void {
    const flow = this.#byId.get(id);
    if (flow?.carrier === carrier) {
      this.#forget(flow);
    }
  }

  forgetAll(carrier: Carrier): void {
    for (const flow of this.#byId.values()) {
      if (flow.carrier === carrier) {
        this.#forget(flow);
      }
    }
  }

  sweep(): void {
    const now = this.#deps.clock.nowMs();
    for (const flow of this.#byId.values()) {
      if (now - flow.lastSeenMs > udpIdleMs) {
        this.#forget(flow);
        flow.carrier.ask({ type: 'close', id: flow.id });
      }
    }
  }

  #open(view: PacketView, key: string): UdpFlow | undefined {
    if (this.#byId.size >= maxUdpFlows) {
      this.#deps.drop('table-full');
      return undefined;
    }
    const { source, destination, sourcePort, destinationPort } = view;
    const id = this.#nextId;
    this.#nextId = id >= 0xfffffffe ? firstId : id + 1;
    const first = view.buffer.slice(view.offset, Math.min(view.offset + view.length, view.transportOffset + 8));
    const lastSeenMs = this.#deps.clock.nowMs();
    const ends = { source, destination, sourcePort, destinationPort };
    const carrier = this.#deps.carrierOf(destination);
    if (!carrier) {
      this.#deps.drop('no-listener');
      return undefined;
    }
    if (!carrier.ask({ type: 'dial', id, protocol: 'udp', ...ends, peerPort: sourcePort })) {
      this.#deps.drop('connector-full');
      return undefined;
    }
    const flow: UdpFlow = { id, key, carrier, ...ends, first, state: 'dialing', waiting: [], lastSeenMs };
    this.#byKey.set(key, flow);
    this.#byId.set(id, flow);
    return flow;
  }

  #forget(flow: UdpFlow): void {
    this.#byId.delete(flow.id);
    this.#byKey.delete(flow.key);
  }
}

function keyOf(buffer: Uint8Array, addresses: number, addressBytes: number, ports: number): string {
  let key = '';
  for (let at = addresses; at < addresses + addressBytes; at++) {
    key += String.fromCharCode(buffer[at] ?? 0);
  }
  for (let at = ports; at < ports + 4; at++) {
    key += String.fromCharCode(buffer[at] ?? 0);
  }
  return key;
}
