import { type PacketView, protocolTcp } from '../packet/view.ts';
import type { Drops } from './drops.ts';

interface Assembly {
  readonly key: string;
  readonly sinceMs: number;
  /** Everything before the payload, from the first fragment; undefined until that has come. */
  header: Uint8Array | undefined;
  readonly pieces: { readonly at: number; readonly bytes: Uint8Array }[];
  received: number;
  /** The payload's length, known from the last fragment. */
  total: number | undefined;
}

const maxAssemblies = 64;
const maxPieces = 64;
/** The sender is this machine: what is not here at once does not come. */
const limitMs = 5_000;
/** The longest packet less its header. */
const maxPayload = 65_515;

/**
 * Puts datagrams together that a device of MTU 1500 has cut. Overlapping pieces end an assembly, as RFC 5722 asks for
 * IPv6 and prudence for IPv4.
 */
export class Fragments {
  readonly #drops: Drops;
  readonly #assemblies = new Map<string, Assembly>();

  constructor(drops: Drops) {
    this.#drops = drops;
  }

  get size(): number {
    return this.#assemblies.size;
  }

  /** The whole packet once the fragment in view completes it; its header says that it is not fragmented. */
  add(view: PacketView, nowMs: number): Uint8Array | undefined {
    const length = view.transportLength;
    // TCP never fragments: its segments fit, and a fragment of one is somebody's trick.
    if (view.protocol === protocolTcp || length <= 0 || view.fragmentAt + length > maxPayload) {
      this.#drops.add('fragment');
      return undefined;
    }
    if (view.hasMoreFragments && length % 8 !== 0) {
      this.#drops.add('fragment');
      return undefined;
    }
    const key = keyOf(view);
    const assembly = this.#assemblies.get(key) ?? this.#open(key, nowMs);
    if (!assembly) {
      this.#drops.add('fragments-full');
      return undefined;
    }
    const isFit = assembly.pieces.every(
      ({ at, bytes }) => at + bytes.length <= view.fragmentAt || at >= view.fragmentAt + length,
    );
    if (!isFit || assembly.pieces.length >= maxPieces) {
      this.#assemblies.delete(key);
      this.#drops.add('fragment', assembly.pieces.length + 1);
      return undefined;
    }
    const { transportOffset } = view;
    assembly.pieces.push({
      at: view.fragmentAt,
      bytes: view.buffer.slice(transportOffset, transportOffset + length),
    });
    assembly.received += length;
    if (view.fragmentAt === 0) {
      assembly.header = headerOf(view);
    }
    if (!view.hasMoreFragments) {
      assembly.total = view.fragmentAt + length;
    }
    if (assembly.total === undefined || assembly.received < assembly.total || !assembly.header) {
      return undefined;
    }
    this.#assemblies.delete(key);
    if (assembly.received > assembly.total) {
      this.#drops.add('fragment', assembly.pieces.length);
      return undefined;
    }
    return join(assembly.header, assembly.pieces, assembly.total);
  }

  sweep(nowMs: number): void {
    for (const assembly of this.#assemblies.values()) {
      if (nowMs - assembly.sinceMs > limitMs) {
        this.#assemblies.delete(assembly.key);
        this.#drops.add('fragment-timeout', assembly.pieces.length);
      }
    }
  }

  #open(key: string, sinceMs: number): Assembly | undefined {
    if (this.#assemblies.size >= maxAssemblies) {
      return undefined;
    }
    const assembly: Assembly = { key, sinceMs, header: undefined, pieces: [], received: 0, total: undefined };
    this.#assemblies.set(key, assembly);
    return assembly;
  }
}

/** RFC 791 §3.2 and RFC 8200 §4.5: addresses, identification, and in IPv4 the protocol. */
function keyOf(view: PacketView): string {
  const { buffer, sourceOffset, addressBytes } = view;
  const addresses = Buffer.from(buffer.buffer, buffer.byteOffset + sourceOffset, 2 * addressBytes);
  return `${addresses.toString('latin1')}${view.fragmentId}/${addressBytes === 4 ? view.protocol : ''}`;
}

/** The first fragment's header, without what makes it a fragment. */
function headerOf(view: PacketView): Uint8Array {
  const { buffer, offset, addressBytes } = view;
  if (addressBytes === 4) {
    const header = buffer.slice(offset, view.transportOffset);
    header[6] = 0;
    header[7] = 0;
    return header;
  }
  // Only the fixed header is kept: options in front of a fragment header have been read already.
  const header = buffer.slice(offset, offset + 40);
  header[6] = view.protocol;
  return header;
}

function join(header: Uint8Array, pieces: Assembly['pieces'], total: number): Uint8Array {
  const packet = new Uint8Array(header.length + total);
  packet.set(header);
  for (const { at, bytes } of pieces) {
    packet.set(bytes, header.length + at);
  }
  const isV4 = (header[0] ?? 0) >>> 4 === 4;
  const length = isV4 ? packet.length : total;
  packet[isV4 ? 2 : 4] = length >>> 8;
  packet[isV4 ? 3 : 5] = length & 0xff;
  return packet;
}
