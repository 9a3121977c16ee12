import { deviceFailed } from '../errors.ts';
import { type PacketBatch, slotBytes, type TunDevice } from './device.ts';

/** What `addon/linux.c` exports. */
export interface TunAddon {
  open(name: string): number;
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
  trim(): void;
  peer(fd: number): number;
}

/** Larger batches gained nothing. */
const batchPackets = 32;

/** Opens the device; it disappears with this process, however that ends. Errors: `daemon.device-failed`. */
export function openLinuxTun(addon: TunAddon, name: string): TunDevice {
  let fd: number;
  try {
    fd = addon.open(name);
  } catch (error) {
    throw deviceFailed(error);
  }
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
