/** In front of each packet: the virtio header that carries offload (Linux `struct virtio_net_hdr`, 10 bytes). */
export const offloadHeaderBytes = 10;
/** A packet with segmentation offload is up to 64 KiB. */
export const slotBytes = offloadHeaderBytes + 65_536;

/** A batch of packets in one reused buffer. Packet `i` begins at `i * slotBytes`, offload header first. */
export interface PacketBatch {
  readonly buffer: Uint8Array;
  readonly lengths: Int32Array;
  readonly count: number;
}

/** Addresses and ports as they stand in an IPv4 packet without options, from byte 12 of its header. */
export const shortcutBytes = 12;

/** Where the kernel itself gives the packets of known TCP flows their other addresses: the daemon does not see them. */
export interface Shortcut {
  /** Packets with `from` get `to` instead, `shortcutBytes` each. Never those that begin or end a connection. False: no room. */
  put(from: Uint8Array, to: Uint8Array): boolean;
  remove(from: Uint8Array): void;
}

/** A point-to-point device that carries IP packets. The batch is the device's: whoever keeps a packet copies it. */
export interface TunDevice {
  readonly name: string;
  /** Undefined where the system has none. */
  readonly shortcut?: Shortcut | undefined;
  /** Called once. The handler may write from within. */
  start(handler: (batch: PacketBatch) => void): void;
  /** Offset and length pairs into `buffer`, offload headers included. Answers how many were not taken. */
  write(buffer: Uint8Array, descriptors: Int32Array, count: number): number;
  /** True when packets waited at the last call, wait now, and none was read in between. */
  hasStalled?(): boolean;
  close(): void;
}
