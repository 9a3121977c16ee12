import { lookup as lookupHost } from 'node:dns/promises';
import { type IpBytes, parseIp } from '../../base/index.ts';

/** The API server's addresses; one that cannot be found out is no reason to fail. */
export async function addressesOf(server: string): Promise<IpBytes[]> {
  const name = new URL(server).hostname.replace(/^\[|\]$/g, '');
  const ip = parseIp(name);
  if (ip) {
    return [ip];
  }
  const found = await lookupHost(name, { all: true }).catch(() => []);
  return found.map(({ address }) => parseIp(address)).filter((each) => each !== undefined);
}
