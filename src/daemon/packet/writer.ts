import { offloadHeaderBytes, type TunDevice } from '../tun/device.ts';

const capacityBytes = 512 * 1024;
const maxPackets = 256;

/**
 * Packets of our own making, collected in one reused buffer and handed to the device together: `reserve` a place, build
 * there, `commit`, and `flush` when the batch at hand is done.
 */
export class PacketWriter {
  readonly #device: TunDevice;
  readonly #lost: (count: number) => void;
  readonly #descriptors = new Int32Array(2 * maxPackets);
  readonly buffer = new Uint8Array(capacityBytes);
  #used = 0;
  #count = 0;

  /** `lost` hears how many packets the device did not take. */
  constructor(device: TunDevice, lost: (count: number) => void) {
    this.#device = device;
    this.#lost = lost;
  }

  /** Where in `buffer` a packet of up to `length` bytes may be built. Its offload header, in front, is empty. */
  reserve(length: number): number {
    if (this.#count === maxPackets || this.#used + offloadHeaderBytes + length > capacityBytes) {
      this.flush();
    }
    this.buffer.fill(0, this.#used, this.#used + offloadHeaderBytes);
    return this.#used + offloadHeaderBytes;
  }

  /** The packet in the reserved place is complete. */
  commit(length: number): void {
    this.#descriptors[2 * this.#count] = this.#used;
    this.#descriptors[2 * this.#count + 1] = offloadHeaderBytes + length;
    this.#used += offloadHeaderBytes + length;
    this.#count++;
  }

  flush(): void {
    if (this.#count > 0) {
      const failed = this.#device.write(this.buffer, this.#descriptors, this.#count);
      this.#used = 0;
      this.#count = 0;
      if (failed > 0) {
        this.#lost(failed);
      }
    }
  }
}
