import { maskIp, type Subnet } from '../../base/index.ts';

/** A subnet that ends inside an octet has several zones; one of more than these has the wider one around them. */
const maxZones = 16;

/** The zones below which a subnet's addresses have their names: RFC 1035 section 3.5, RFC 3596 section 2.5. */
export function reverseZones({ address, prefixLength }: Subnet): string[] {
  const [step, suffix] = address.length === 4 ? [8, 'in-addr.arpa'] : [4, 'ip6.arpa'];
  const spare = (step - (prefixLength % step)) % step;
  const count = 2 ** spare <= maxZones ? 2 ** spare : 1;
  const labels = count > 1 || spare === 0 ? Math.ceil(prefixLength / step) : Math.floor(prefixLength / step);
  const first = maskIp(address, prefixLength);
  return Array.from({ length: count }, (_, index) => {
    const parts = Array.from({ length: labels }, (_, label) => partOf(first, step, label));
    // Above the prefix all bits are zero, so that counting never carries.
    parts[labels - 1] = (parts[labels - 1] ?? 0) + index;
    return [...parts.map((part) => part.toString(step === 8 ? 10 : 16)).reverse(), suffix].join('.');
  });
}

function partOf(address: Uint8Array, step: number, label: number): number {
  const byte = address[Math.floor((label * step) / 8)] ?? 0;
  return step === 8 ? byte : label % 2 === 0 ? byte >>> 4 : byte & 0x0f;
}
