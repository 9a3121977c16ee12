import { formatSubnet, type IpBytes, type Subnet, subnetContains, subnetsOverlap } from '../../base/index.ts';
import type { ExistingRoute, LinkPlan } from './contract.ts';

/**
 * The subnets without the exceptions, as few prefixes as possible. Where what is left out needs no route of its own, it
 * keeps the route that it has, and follows it when the machine changes networks: nothing is to be taken back later.
 * An exception costs one route per bit by which it is longer than its subnet.
 */
export function carve(subnets: readonly Subnet[], exceptions: readonly Subnet[]): Subnet[] {
  const parts = subnets.flatMap((subnet) => without(subnet, exceptions));
  return [...new Map(parts.map((part) => [formatSubnet(part), part])).values()];
}

/** The two halves of a subnet: they win over a route for the whole of it. A single address has none. */
export function halves({ address, prefixLength }: Subnet): Subnet[] {
  if (prefixLength >= address.length * 8) {
    return [];
  }
  const upper = Uint8Array.from(address);
  upper[prefixLength >>> 3] = (upper[prefixLength >>> 3] ?? 0) | (0x80 >>> (prefixLength & 7));
  return [
    { address, prefixLength: prefixLength + 1 },
    { address: upper, prefixLength: prefixLength + 1 },
  ];
}

/** Where another device has a route for the same subnet, ours are the two halves: they win, and its route stays. */
export function wantedRoutes(plan: LinkPlan, existing: readonly ExistingRoute[]): Subnet[] {
  const taken = new Set(
    existing.filter(({ device }) => device !== plan.device).map(({ subnet }) => formatSubnet(subnet)),
  );
  return carve(plan.subnets, plan.neverProxy).flatMap((part) => {
    const parts = taken.has(formatSubnet(part)) ? halves(part) : [];
    return parts.length > 0 ? parts : [part];
  });
}

function without(subnet: Subnet, exceptions: readonly Subnet[]): Subnet[] {
  const inside = exceptions.filter((each) => subnetsOverlap(subnet, each));
  if (inside.length === 0) {
    return [subnet];
  }
  return inside.some((each) => covers(each, subnet)) ? [] : halves(subnet).flatMap((half) => without(half, inside));
}

function covers(outer: Subnet, inner: { readonly address: IpBytes; readonly prefixLength: number }): boolean {
  return outer.prefixLength <= inner.prefixLength && subnetContains(outer, inner.address);
}
