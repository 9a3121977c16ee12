import { type PacketBatch, slotBytes, type TunDevice } from './device.ts';

/** What the addons of systems with file descriptors export, beside opening. */
export interface DescriptorAddon {
  /** The buffers stay referenced until `stop`. */
  start(
    fd: number,
    buffer: Uint8Array,
    slot: number,
    max: number,
    lengths: Int32Array,
    callback: (count: number) => void,
  ): unknown;
  stop(handle: unknown): void;
  write(fd: number, buffer: Uint8Array, descriptors: Int32Array, count: number): number;
  close(fd: number): void;
}

/** Larger batches gained nothing. */
const batchPackets = 32;

/** A device that is an open descriptor. It is the device's now. */
export function createDescriptorTun(addon: DescriptorAddon, name: string, descriptor: number): TunDevice {
  let fd = descriptor;
  const buffer = new Uint8Array(batchPackets * slotBytes);
  const lengths = new Int32Array(batchPackets);
  let handle: unknown;
  return {
    name,
    start(handler) {
      const batch: { -readonly [K in keyof PacketBatch]: PacketBatch[K] } = { buffer, lengths, count: 0 };
      handle = addon.start(fd, buffer, slotBytes, batchPackets, lengths, (count) => {
        batch.count = count;
        handler(batch);
      });
    },
    write: (from, descriptors, count) => addon.write(fd, from, descriptors, count),
    close() {
      if (fd >= 0) {
        if (handle) {
          addon.stop(handle);
        }
        addon.close(fd);
        fd = -1;
      }
    },
  };
}
