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
  /** Not 0 when there are packets that nobody has read. */
  waiting(fd: number): number;
  /** The system ends this process after so long, unless called again before; 0 takes it back. Not 0 when it will. */
  expire(ms: number): number;
}

/** Larger batches gained nothing. */
const batchPackets = 32;

/** A device that is an open descriptor. It is the device's now. */
export function createDescriptorTun(addon: DescriptorAddon, name: string, descriptor: number): TunDevice {
  let fd = descriptor;
  const buffer = new Uint8Array(batchPackets * slotBytes);
  const lengths = new Int32Array(batchPackets);
  let handle: unknown;
  let batches = 0;
  let stood: number | undefined;
  return {
    name,
    start(handler) {
      const batch: { -readonly [K in keyof PacketBatch]: PacketBatch[K] } = { buffer, lengths, count: 0 };
      handle = addon.start(fd, buffer, slotBytes, batchPackets, lengths, (count) => {
        batch.count = count;
        batches++;
        handler(batch);
      });
    },
    write: (from, descriptors, count) => addon.write(fd, from, descriptors, count),
    hasStalled() {
      // Packets may have come this very moment: only those count that were there the last time already.
      const isStalled = stood === batches;
      stood = handle !== undefined && addon.waiting(fd) !== 0 ? batches : undefined;
      return isStalled && stood !== undefined;
    },
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
