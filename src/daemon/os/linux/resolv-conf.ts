import { type IpBytes, parseIp } from '../../../base/index.ts';

/** More than any resolver library asks. */
const maxResolvers = 8;

/** The addresses of a resolv.conf, in its order. Scoped ones (`fe80::1%eth0`) are left out: we could not ask them. */
export function resolversOf(text: string): IpBytes[] {
  return [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)]
    .map((match) => parseIp(match[1] ?? ''))
    .filter((each) => each !== undefined)
    .slice(0, maxResolvers);
}

/** The resolvers that this machine's programs ask. Without any, they ask the machine itself (resolv.conf(5)). */
export function resolversOfMachine(text: string | undefined): IpBytes[] {
  const found = resolversOf(text ?? '');
  return found.length > 0 ? found : [Uint8Array.of(127, 0, 0, 1)];
}
