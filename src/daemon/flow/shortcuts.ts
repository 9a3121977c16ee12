import { type Shortcut, shortcutBytes } from '../tun/device.ts';
import { setPorts } from './nat.ts';
import type { Flow } from './table.ts';

/** A question and an answer are over before it would be worth four calls of the kernel. */
const worthPackets = 16;
const addressBytes = 4;

/** Which flows go the short way through the kernel: what carries more than a little, while nothing about it is open. */
export class Shortcuts {
  readonly #shortcut: Shortcut | undefined;
  readonly #from = new Uint8Array(shortcutBytes);
  readonly #to = new Uint8Array(shortcutBytes);
  readonly #after: number;
  #size = 0;

  constructor(shortcut: Shortcut | undefined, after = worthPackets) {
    this.#shortcut = shortcut;
    this.#after = after;
  }

  /** Flows that go the short way now. */
  get size(): number {
    return this.#size;
  }

  /** One more packet of an open flow came here. */
  count(flow: Flow): void {
    if (this.#shortcut && flow.state === 'open' && !flow.isOrphan && ++flow.packets === this.#after) {
      this.#begin(this.#shortcut, flow);
    }
  }

  /** All of its packets are wanted here again. */
  end(flow: Flow): void {
    if (flow.isShort) {
      flow.isShort = false;
      this.#size--;
      this.#shortcut?.remove(this.#outward(flow));
      this.#shortcut?.remove(this.#back(flow));
    }
  }

  #begin(shortcut: Shortcut, flow: Flow): void {
    if (flow.source.length !== addressBytes) {
      return;
    }
    const { destination, peerPort, listener, listenerPort, source, sourcePort, destinationPort } = flow;
    flow.isShort = true;
    this.#size++;
    const isPut =
      shortcut.put(this.#outward(flow), write(this.#to, destination, peerPort, listener, listenerPort)) &&
      shortcut.put(this.#back(flow), write(this.#to, destination, destinationPort, source, sourcePort));
    if (!isPut) {
      this.end(flow);
    }
  }

  #outward({ source, sourcePort, destination, destinationPort }: Flow): Uint8Array {
    return write(this.#from, source, sourcePort, destination, destinationPort);
  }

  #back({ listener, listenerPort, destination, peerPort }: Flow): Uint8Array {
    return write(this.#from, listener, listenerPort, destination, peerPort);
  }
}

function write(
  into: Uint8Array,
  source: Uint8Array,
  sourcePort: number,
  destination: Uint8Array,
  destinationPort: number,
): Uint8Array {
  into.set(source, 0);
  into.set(destination, addressBytes);
  setPorts(into, 2 * addressBytes, sourcePort, destinationPort);
  return into;
}
