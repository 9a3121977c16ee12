import { adjust, adjustPartial, delta, sumWords } from '../packet/checksum.ts';
import {
  offloadHeaderBytes,
  type PacketBatch,
  type Shortcut,
  shortcutBytes,
  slotBytes,
  type TunDevice,
} from './device.ts';

const keyAt = 12;
const checksumAt = { ip: 10, tcp: 36 } as const;
const headerBytes = 40;
const finSynRst = 7;

/** What `addon/shortcut.c` does in the kernel. */
export class FakeShortcut implements Shortcut {
  readonly #entries = new Map<string, Uint8Array>();
  maxEntries = Number.POSITIVE_INFINITY;

  get size(): number {
    return this.#entries.size;
  }

  put(from: Uint8Array, to: Uint8Array): boolean {
    if (this.#entries.size >= this.maxEntries) {
      return false;
    }
    this.#entries.set(from.join(), Uint8Array.from(to));
    return true;
  }

  remove(from: Uint8Array): void {
    this.#entries.delete(from.join());
  }

  /** The packet as it comes in again; undefined when it is the daemon's. */
  rewrite(packet: Uint8Array, isPartial = false): Uint8Array | undefined {
    const isKnown = packet.length >= headerBytes && packet[0] === 0x45 && packet[9] === 6;
    const isFragment = (((packet[6] ?? 0) << 8) | (packet[7] ?? 0)) & 0x3fff;
    const to = this.#entries.get(packet.subarray(keyAt, keyAt + shortcutBytes).join());
    if (!isKnown || isFragment !== 0 || ((packet[33] ?? 0) & finSynRst) !== 0 || !to) {
      return undefined;
    }
    const changed = Uint8Array.from(packet);
    changed.set(to, keyAt);
    const change = (from: number, length: number): number =>
      delta(sumWords(packet, from, length), sumWords(changed, from, length));
    const addresses = change(keyAt, 8);
    adjust(changed, checksumAt.ip, addresses);
    if (isPartial) {
      adjustPartial(changed, checksumAt.tcp, addresses);
    } else {
      adjust(changed, checksumAt.tcp, addresses);
      adjust(changed, checksumAt.tcp, change(keyAt + 8, 4));
    }
    return changed;
  }
}

/** A device of two lists: what a test injects, and what was written. */
export class FakeTun implements TunDevice {
  readonly name = 'fake0';
  readonly written: Uint8Array[] = [];
  readonly shortcut: FakeShortcut | undefined;
  #handler: (batch: PacketBatch) => void = () => undefined;

  constructor(shortcut?: FakeShortcut) {
    this.shortcut = shortcut;
  }

  start(handler: (batch: PacketBatch) => void): void {
    this.#handler = handler;
  }

  /** Hands IP packets (without offload header) to the daemon as one batch. */
  inject(...packets: readonly Uint8Array[]): void {
    const buffer = new Uint8Array(packets.length * slotBytes);
    const lengths = new Int32Array(packets.length);
    let count = 0;
    for (const packet of packets) {
      const short = this.shortcut?.rewrite(packet);
      if (short) {
        this.written.push(short);
      } else {
        buffer.set(packet, count * slotBytes + offloadHeaderBytes);
        lengths[count++] = offloadHeaderBytes + packet.length;
      }
    }
    this.#handler({ buffer, lengths, count });
  }

  write(buffer: Uint8Array, descriptors: Int32Array, count: number): number {
    for (let i = 0; i < count; i++) {
      const offset = descriptors[2 * i] ?? 0;
      this.written.push(buffer.slice(offset + offloadHeaderBytes, offset + (descriptors[2 * i + 1] ?? 0)));
    }
    return 0;
  }

  close(): void {
    this.#handler = () => undefined;
  }
}
