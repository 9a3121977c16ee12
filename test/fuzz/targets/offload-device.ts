import { offloadHeaderBytes, type PacketBatch, slotBytes, type TunDevice } from '../../../src/daemon/tun/device.ts';
import { FakeShortcut } from '../../../src/daemon/tun/fake.ts';

/** Takes packets with an offload header, gives back what was written. */
export class OffloadDevice implements TunDevice {
  readonly name = 'fuzz0';
  readonly shortcut = new FakeShortcut();
  readonly written: { readonly packet: Uint8Array; readonly isPartial: boolean }[] = [];
  readonly #buffer = new Uint8Array(2 * slotBytes);
  readonly #lengths = new Int32Array(2);
  #handler: (batch: PacketBatch) => void = () => undefined;

  start(handler: (batch: PacketBatch) => void): void {
    this.#handler = handler;
  }

  inject(packet: Uint8Array, isPartial = false): void {
    const short = this.shortcut.rewrite(packet, isPartial);
    if (short) {
      this.written.push({ packet: short, isPartial });
      return;
    }
    this.#buffer.fill(0, 0, offloadHeaderBytes);
    this.#buffer[0] = isPartial ? 1 : 0;
    this.#buffer.set(packet, offloadHeaderBytes);
    this.#lengths[0] = offloadHeaderBytes + packet.length;
    this.#handler({ buffer: this.#buffer, lengths: this.#lengths, count: 1 });
  }

  write(buffer: Uint8Array, descriptors: Int32Array, count: number): number {
    for (let i = 0; i < count; i++) {
      const at = descriptors[2 * i] ?? 0;
      const packet = buffer.slice(at + offloadHeaderBytes, at + (descriptors[2 * i + 1] ?? 0));
      this.written.push({ packet, isPartial: ((buffer[at] ?? 0) & 1) === 1 });
    }
    return 0;
  }

  close(): void {}
}
