/** An IP address as raw network-order bytes: 4 or 16 of them. */
export type IpBytes = Uint8Array;

export interface Subnet {
  readonly address: IpBytes;
  readonly prefixLength: number;
}

/** Reads `10.1.2.3` or `fd00::1` (no zone). Anything else is undefined. */
export function parseIp(text: string): IpBytes | undefined {
  return text.includes(':') ? parseIp6(text) : parseIp4(text);
}

/** Digit by digit: every connection comes past here. */
function parseIp4(text: string): IpBytes | undefined {
  const out = new Uint8Array(4);
  let [part, value, digits] = [0, 0, 0];
  for (let at = 0; at <= text.length; at++) {
    const code = at < text.length ? text.charCodeAt(at) : dot;
    if (code === dot) {
      if (digits === 0 || value > 255 || part > 3) {
        return undefined;
      }
      out[part++] = value;
      value = 0;
      digits = 0;
    } else if (code < zero || code > nine || (digits > 0 && value === 0) || digits === 3) {
      return undefined;
    } else {
      value = value * 10 + code - zero;
      digits++;
    }
  }
  return part === 4 ? out : undefined;
}

const [dot, zero, nine] = [0x2e, 0x30, 0x39];

function parseIp6(text: string): IpBytes | undefined {
  const halves = text.split('::');
  if (halves.length > 2) {
    return undefined;
  }
  const head = words(halves[0] ?? '');
  const tail = halves.length === 2 ? words(halves[1] ?? '') : [];
  if (!head || !tail) {
    return undefined;
  }
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) {
    return undefined;
  }
  const all = [...head, ...new Array<number>(Math.max(0, missing)).fill(0), ...tail];
  return Uint8Array.from(all.flatMap((word) => [word >>> 8, word & 0xff]));
}

function words(text: string): number[] | undefined {
  if (text === '') {
    return [];
  }
  const out: number[] = [];
  const parts = text.split(':');
  for (const [index, part] of parts.entries()) {
    if (part.includes('.') && index === parts.length - 1) {
      const v4 = parseIp4(part);
      if (!v4) {
        return undefined;
      }
      out.push(((v4[0] ?? 0) << 8) | (v4[1] ?? 0), ((v4[2] ?? 0) << 8) | (v4[3] ?? 0));
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      out.push(Number.parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return out;
}

/** RFC 5952 text for IPv6, dotted quad for IPv4. */
export function formatIp(ip: IpBytes): string {
  if (ip.length === 4) {
    return ip.join('.');
  }
  const groups = Array.from({ length: 8 }, (_, i) => ((ip[2 * i] ?? 0) << 8) | (ip[2 * i + 1] ?? 0));
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) {
      length++;
    }
    if (length > best.length) {
      best = { start, length };
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (best.start < 0) {
    return hex.join(':');
  }
  return `${hex.slice(0, best.start).join(':')}::${hex.slice(best.start + best.length).join(':')}`;
}

/** An IPv4 address in IPv6 clothes (`::ffff:a.b.c.d`) becomes the IPv4 address; others stay. */
export function unmapIp(ip: IpBytes): IpBytes {
  const mapped = ip.length === 16 && ip.subarray(0, 10).every((b) => b === 0) && ip[10] === 0xff && ip[11] === 0xff;
  return mapped ? ip.slice(12) : ip;
}

/** Reads `10.0.0.0/8`; host bits are cleared. Anything else is undefined. */
export function parseSubnet(text: string): Subnet | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const address = match ? parseIp(match[1] ?? '') : undefined;
  const prefixLength = Number(match?.[2]);
  if (!address || prefixLength > address.length * 8) {
    return undefined;
  }
  return { address: maskIp(address, prefixLength), prefixLength };
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatIp(subnet.address)}/${subnet.prefixLength}`;
}

export function maskIp(ip: IpBytes, prefixLength: number): IpBytes {
  return ip.map((byte, index) => byte & (0xff00 >> Math.max(0, Math.min(8, prefixLength - index * 8))) & 0xff);
}

export function subnetContains(subnet: Subnet, ip: IpBytes): boolean {
  return ip.length === subnet.address.length && equalBytes(maskIp(ip, subnet.prefixLength), subnet.address);
}

export function subnetsOverlap(a: Subnet, b: Subnet): boolean {
  return a.prefixLength <= b.prefixLength ? subnetContains(a, b.address) : subnetContains(b, a.address);
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** As a socket names its peer: without zone, and IPv4 as itself, where a listener for both families says `::ffff:10.0.0.1`. Empty when it is none. */
export function plainAddress(text: string | undefined): string {
  const ip = parseIp(text?.split('%')[0] ?? '');
  return ip ? formatIp(unmapIp(ip)) : '';
}

export function isLoopback(text: string): boolean {
  const ip = parseIp(text);
  return (ip?.length === 4 && ip[0] === 127) || text === '::1';
}
