import {
  formatIp,
  type IpBytes,
  parseIp,
  parseSubnet,
  reverseAddress,
  reverseName,
  type Subnet,
  subnetContains,
} from '../../base/index.ts';

/** A name's records as they cross the wire: uncompressed, without a header. */
export interface Records {
  readonly rcode: number;
  readonly records: Uint8Array;
}

export interface TranslationPlan {
  /** Real subnets that cannot be routed here. */
  readonly translated: readonly Subnet[];
  /** Addresses inside of them that keep their own way. */
  readonly neverProxy: readonly Subnet[];
  /** Where the addresses come from that stand in, at most one a family. */
  readonly virtualSubnets: readonly Subnet[];
}

const type = { A: 1, PTR: 12, AAAA: 28 } as const;
const classIn = 1;
/** Of an IPv6 pool no more is used either. */
const maxAddresses = 65_536;

/**
 * Addresses that stand in for those that cannot be routed on this machine. Each real address gets one when a name is
 * first answered with it, and keeps it; when all are given out, whichever was longest unused is given away. A virtual
 * address only means something while a connection is opened, so open connections do not care.
 */
export class Translation {
  #plan: TranslationPlan = { translated: [], neverProxy: [], virtualSubnets: [] };
  /** By the real address's text, in order of use. */
  readonly #virtual = new Map<string, IpBytes>();
  readonly #real = new Map<string, IpBytes>();
  readonly #given = new Map<number, number>();

  /** Addresses that were given out stay valid for as long as their pool does. */
  set plan(plan: TranslationPlan) {
    const pools = plan.virtualSubnets.map((each) => formatIp(each.address)).join();
    if (pools !== this.#plan.virtualSubnets.map((each) => formatIp(each.address)).join()) {
      this.#virtual.clear();
      this.#real.clear();
      this.#given.clear();
    }
    this.#plan = plan;
  }

  /** Where a packet to this address really goes; undefined for a virtual address that stands for nothing. */
  toReal(ip: IpBytes): IpBytes | undefined {
    if (!this.#plan.virtualSubnets.some((subnet) => subnetContains(subnet, ip))) {
      return ip;
    }
    const real = this.#real.get(formatIp(ip));
    if (real) {
      this.#touch(formatIp(real), ip);
    }
    return real;
  }

  /** The address that programs of this machine are told. */
  toVirtual(ip: IpBytes): IpBytes {
    const { translated, neverProxy } = this.#plan;
    const isTranslated =
      translated.some((subnet) => subnetContains(subnet, ip)) &&
      !neverProxy.some((subnet) => subnetContains(subnet, ip));
    return isTranslated ? this.#standIn(ip) : ip;
  }

  /** Asks for a name, with the addresses of questions and answers translated. */
  async lookup(name: string, qtype: number, ask: (name: string, qtype: number) => Promise<Records>): Promise<Records> {
    if (this.#plan.translated.length === 0) {
      return ask(name, qtype);
    }
    const { rcode, records } = await ask(qtype === type.PTR ? this.#realName(name) : name, qtype);
    return { rcode, records: this.#translateRecords(records) };
  }

  /** The real address's reverse name, where the virtual one's was asked for. */
  #realName(name: string): string {
    const virtual = reverseAddress(name.toLowerCase().replace(/\.$/, ''));
    const real = virtual && this.toReal(virtual);
    return real ? `${reverseName(real)}.` : name;
  }

  /** A copy in which each address is translated; what cannot be read ends the work, and stays as it is. */
  #translateRecords(records: Uint8Array): Uint8Array {
    const copy = Uint8Array.from(records);
    const view = new DataView(copy.buffer);
    for (let at = 0; at < copy.length; ) {
      while (at < copy.length && copy[at] !== 0 && (copy[at] ?? 0) < 64) {
        at += 1 + (copy[at] ?? 0);
      }
      // The root label, type, class, TTL, length.
      const data = at + 11;
      if (data > copy.length || copy[at] !== 0) {
        break;
      }
      const end = data + view.getUint16(at + 9);
      const size = view.getUint16(at + 1) === type.A ? 4 : view.getUint16(at + 1) === type.AAAA ? 16 : 0;
      if (end > copy.length) {
        break;
      }
      if (size > 0 && end - data === size && view.getUint16(at + 3) === classIn) {
        copy.set(this.toVirtual(copy.slice(data, end)), data);
      }
      at = end;
    }
    return copy;
  }

  #standIn(real: IpBytes): IpBytes {
    const text = formatIp(real);
    const virtual = this.#virtual.get(text) ?? this.#take(real);
    if (!virtual) {
      return real;
    }
    this.#touch(text, virtual);
    return virtual;
  }

  #touch(text: string, virtual: IpBytes): void {
    this.#virtual.delete(text);
    this.#virtual.set(text, virtual);
  }

  #take(real: IpBytes): IpBytes | undefined {
    const pool = this.#plan.virtualSubnets.find(({ address }) => address.length === real.length);
    if (!pool) {
      return undefined;
    }
    const size = Math.min(maxAddresses, 2 ** (pool.address.length * 8 - pool.prefixLength));
    const given = this.#given.get(real.length) ?? 0;
    // The first is the device's own address, the last may be a broadcast.
    const virtual = given < size - 2 ? addTo(pool.address, given + 1) : this.#giveAway(real.length);
    this.#given.set(real.length, given + 1);
    if (virtual) {
      this.#real.set(formatIp(virtual), real);
    }
    return virtual;
  }

  #giveAway(length: number): IpBytes | undefined {
    for (const [text, virtual] of this.#virtual) {
      if (virtual.length === length) {
        this.#virtual.delete(text);
        return virtual;
      }
    }
    return undefined;
  }
}

function addTo(address: IpBytes, count: number): IpBytes {
  const sum = Uint8Array.from(address);
  for (let index = sum.length - 1, rest = count; rest > 0 && index >= 0; index--) {
    const total = (sum[index] ?? 0) + (rest & 0xff);
    sum[index] = total;
    rest = (rest >>> 8) + (total >>> 8);
  }
  return sum;
}

/** Reads subnets and addresses; what is neither is left out. */
export function readSubnets(texts: readonly string[]): Subnet[] {
  return texts
    .map((text) => {
      const ip = parseIp(text);
      return ip ? { address: ip, prefixLength: ip.length * 8 } : parseSubnet(text);
    })
    .filter((each) => each !== undefined);
}
