import { type IpBytes, parseIp, type Subnet } from '../../../base/index.ts';
import type { ExistingRoute } from '../contract.ts';

/** One family's part of `netstat -rn`. Routes that the system cloned from others for single peers are left out. */
export function parseNetstat(text: string, family: 4 | 6): ExistingRoute[] {
  let deviceColumn = -1;
  return text.split('\n').flatMap((line) => {
    const columns = line.trim().split(/\s+/);
    if (columns[0] === 'Destination') {
      // Older systems have two more columns between the flags and the device.
      deviceColumn = columns.indexOf('Netif');
      return [];
    }
    const [destination = '', gateway = '', flags = ''] = columns;
    const device = columns[deviceColumn];
    const subnet = parseDestination(destination, family);
    return subnet && device && !flags.includes('W') ? [{ subnet, device, gateway: toGateway(gateway) }] : [];
  });
}

/**
 * What netstat makes of a destination: trailing zero octets are dropped, and so is the mask where the octets that are
 * left say it (`192.168.1` is a /24, `10.100/16` has its own). Names of devices hang on link-local addresses (`%en0`).
 */
export function parseDestination(text: string, family: 4 | 6): Subnet | undefined {
  const [base = '', length] = text.replace(/%[^/]*/, '').split('/');
  if (text === 'default') {
    return { address: new Uint8Array(family === 4 ? 4 : 16), prefixLength: 0 };
  }
  const octets = base.split('.').length;
  const address = parseIp(family === 4 && octets < 4 ? base + '.0'.repeat(4 - octets) : base);
  const prefixLength = Number(length ?? (family === 4 ? octets * 8 : 128));
  const isValid = Number.isInteger(prefixLength) && prefixLength <= (address?.length ?? 0) * 8;
  return address && isValid && address.length === (family === 4 ? 4 : 16) ? { address, prefixLength } : undefined;
}

/** A link (`link#4`), a neighbour's hardware address or a device's name is no gateway. */
function toGateway(text: string): string | undefined {
  return parseIp(text.replace(/%.*$/, '')) ? text : undefined;
}

/** The resolvers of programs that name none, from `scutil --dns`: those of its first part that are for all names. */
export function parseScutil(text: string): IpBytes[] {
  const [general = ''] = text.split('DNS configuration (for scoped queries)');
  const addresses = general
    .split(/^resolver #\d+$/m)
    .slice(1)
    .filter((resolver) => !/^\s*domain\s*:/m.test(resolver))
    .flatMap((resolver) => [...resolver.matchAll(/^\s*nameserver\[\d+\]\s*:\s*(\S+)/gm)])
    .map((match) => match[1] ?? '');
  return [...new Set(addresses)].map(parseIp).filter((each) => each !== undefined);
}
