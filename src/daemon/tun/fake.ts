import { offloadHeaderBytes, type PacketBatch, slotBytes, type TunDevice } from './device.ts';

/** A device of two lists: what a test injects, and what was written. */
export class FakeTun implements TunDevice {
  readonly name = 'fake0';
  readonly written: Uint8Array[] = [];
  #handler: (batch: PacketBatch) => void = () => undefined;

  start(handler: (batch: PacketBatch) => void): void {
    this.#handler = handler;
  }

  /** Hands IP packets (without offload header) to the daemon as one batch. */
  inject(...packets: readonly Uint8Array[]): void {
    const buffer = new Uint8Array(packets.length * slotBytes);
    const lengths = new Int32Array(packets.length);
    for (const [index, packet] of packets.entries()) {
      buffer.set(packet, index * slotBytes + offloadHeaderBytes);
      lengths[index] = offloadHeaderBytes + packet.length;
    }
    this.#handler({ buffer, lengths, count: packets.length });
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
