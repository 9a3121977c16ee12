import { type IpBytes, parseIp } from './ip.ts';

/** The address that a reverse name stands for (RFC 1035 §3.5, RFC 3596 §2.5); undefined for parts and other names. */
export function reverseAddress(plain: string): IpBytes | undefined {
  if (plain.endsWith('.in-addr.arpa')) {
    return parseIp(plain.slice(0, -'.in-addr.arpa'.length).split('.').reverse().join('.'));
  }
  if (plain.endsWith('.ip6.arpa')) {
    const digits = plain.slice(0, -'.ip6.arpa'.length).split('.').reverse();
    const groups = digits.length === 32 && digits.every((each) => /^[0-9a-f]$/.test(each)) ? digits.join('') : '';
    return groups ? Uint8Array.from(groups.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)) : undefined;
  }
  return undefined;
}

/** The reverse name of an address, without a dot at the end (RFC 1035 §3.5, RFC 3596 §2.5). */
export function reverseName(ip: IpBytes): string {
  if (ip.length === 4) {
    return `${[...ip].reverse().join('.')}.in-addr.arpa`;
  }
  const digits = [...ip].flatMap((byte) => [byte >>> 4, byte & 0x0f].map((digit) => digit.toString(16)));
  return `${digits.reverse().join('.')}.ip6.arpa`;
}
