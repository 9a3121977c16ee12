import { deviceFailed } from '../errors.ts';
import { type PacketBatch, slotBytes, type TunDevice } from './device.ts';

/** What `addon/windows.c` exports. */
export interface WintunAddon {
  /** Makes the adapter and opens it. The library's signature is checked before it is loaded. */
  open(name: string, library: string): unknown;
  /** Reads in a thread of its own; calls back on ours. The buffers stay referenced until `close`. */
  start(
    session: unknown,
    buffer: Uint8Array,
    slot: number,
    max: number,
    lengths: Int32Array,
    callback: (count: number) => void,
  ): void;
  write(session: unknown, buffer: Uint8Array, descriptors: Int32Array, count: number): number;
  /** Removes the adapter. No callback after this. */
  close(session: unknown): void;
  systemDirectory(): string;
  isElevated(): boolean;
}

const batchPackets = 32;
const hint =
  'wintun.dll belongs beside the daemon, signed as its makers published it; the daemon needs an administrator.';

/**
 * Opens a wintun adapter; it disappears with this process, however that ends. There is no offload: the headers that
 * packets have for it are empty. Errors: `daemon.device-failed`.
 */
export function openWindowsTun(addon: WintunAddon, name: string, folder: string): TunDevice {
  let session: unknown;
  try {
    session = addon.open(name, `${folder}\\wintun.dll`);
  } catch (error) {
    throw deviceFailed(error, hint);
  }
  const buffer = new Uint8Array(batchPackets * slotBytes);
  const lengths = new Int32Array(batchPackets);
  let isOpen = true;
  return {
    name,
    start(handler) {
      const batch: { -readonly [K in keyof PacketBatch]: PacketBatch[K] } = { buffer, lengths, count: 0 };
      addon.start(session, buffer, slotBytes, batchPackets, lengths, (count) => {
        batch.count = count;
        handler(batch);
      });
    },
    write: (from, descriptors, count) => (isOpen ? addon.write(session, from, descriptors, count) : count),
    close() {
      if (isOpen) {
        isOpen = false;
        addon.close(session);
      }
    },
  };
}
