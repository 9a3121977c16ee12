/** Numbers that look random and are the same for the same seed (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** From 0 to `below - 1`. */
  below(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % Math.max(1, below);
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(from: readonly T[]): T {
    const picked = from[this.below(from.length)];
    if (picked === undefined) {
      throw new RangeError('nothing to pick from');
    }
    return picked;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

/** Values at which lengths, counts and flags turn. */
const edges = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 19, 20, 21, 39, 40, 41, 63, 64, 127, 128, 192, 254, 255];

/** A changed copy: some bytes flipped or set to edges, a part cut, doubled, moved in from elsewhere, or the end cut. */
export function mutate(input: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
  let bytes = Uint8Array.from(input);
  for (let change = random.below(6); change > 0; change--) {
    const at = random.below(bytes.length);
    switch (random.below(8)) {
      case 0:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
        break;
      case 1:
        bytes[at] = random.pick(edges);
        break;
      case 2:
        bytes[at] = random.below(256);
        break;
      case 3:
        bytes = bytes.slice(0, at);
        break;
      case 4:
        bytes = join(bytes.subarray(0, at), random.bytes(random.below(24)), bytes.subarray(at));
        break;
      case 5:
        bytes = join(bytes.subarray(0, at), bytes.subarray(at + random.below(24)));
        break;
      case 6:
        bytes = join(bytes.subarray(0, at), other.subarray(random.below(other.length)));
        break;
      default:
        bytes[at] = 0xff;
        bytes[at + 1] = 0xff;
    }
  }
  return bytes;
}

function join(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.concat(parts));
}
