import { formatSubnet, type Subnet, subnetContains, subnetsOverlap } from '../../base/index.ts';
import { forbiddenSubnet, subnetConflict } from '../errors.ts';
import type { ExistingRoute } from '../os/contract.ts';

/** A subnet of a cluster, and the route of another program that is in its way. */
export interface Conflict {
  readonly subnet: Subnet;
  readonly route: ExistingRoute;
}

export interface ConflictQuestion {
  readonly subnets: readonly Subnet[];
  /** An overlap inside one of these is allowed, whatever else the machine has. */
  readonly allowConflicting: readonly Subnet[];
  readonly routes: readonly ExistingRoute[];
  /** Ours: its routes are in nobody's way. */
  readonly device: string;
}

/** A default route, whole or in halves, is everybody's: it is in nobody's way. */
const widestRoute = 1;

/** Each subnet that overlaps with a route of another program. Pure. */
export function findConflicts({ subnets, allowConflicting, routes, device }: ConflictQuestion): Conflict[] {
  return subnets.flatMap((subnet) => {
    const route = routes.find(
      (each) =>
        each.device !== device &&
        each.subnet.prefixLength > widestRoute &&
        subnetsOverlap(subnet, each.subnet) &&
        !isAllowed(narrower(subnet, each.subnet), allowConflicting),
    );
    return route ? [{ subnet, route }] : [];
  });
}

const narrower = (a: Subnet, b: Subnet): Subnet => (a.prefixLength >= b.prefixLength ? a : b);

/** The whole of it: a part that is allowed says nothing about the rest. */
function isAllowed(subnet: Subnet, allowed: readonly Subnet[]): boolean {
  return allowed.some((each) => each.prefixLength <= subnet.prefixLength && subnetContains(each, subnet.address));
}

export type OwnerOf = (route: ExistingRoute) => Promise<string | undefined>;

/** A route as a person recognises it: `10.0.0.0/8 dev tun9, which belongs to openvpn (process 123)`. */
export async function describeRoute(route: ExistingRoute, ownerOf: OwnerOf): Promise<string> {
  const { subnet, device, gateway } = route;
  const owner = await ownerOf(route).catch(() => undefined);
  const via = gateway ? ` via ${gateway}` : '';
  return `${formatSubnet(subnet)}${via} dev ${device}${owner ? `, which belongs to ${owner}` : ''}`;
}

/** What is routed: the subnets that nothing is in the way of, and instead of the others, virtual ones. */
export interface Placement {
  /** Those that keep their addresses come first: the device's own address stays where it can. */
  readonly subnets: readonly Subnet[];
  readonly translated: readonly Conflict[];
}

/**
 * Puts virtual subnets in the place of those that conflict.
 * Errors: `daemon.subnet-conflict` when there is none of that family, or something is in the way of it too.
 */
export async function placeSubnets(
  { subnets, allowConflicting, routes, device }: ConflictQuestion,
  virtualSubnets: readonly Subnet[],
  /** Those of before stay translated: programs hold the addresses. */
  before: readonly Conflict[],
  ownerOf: OwnerOf,
): Promise<Placement> {
  const found = findConflicts({ subnets, allowConflicting, routes, device });
  const texts = new Set(subnets.map(formatSubnet));
  const kept = before.filter(
    ({ subnet }) =>
      texts.has(formatSubnet(subnet)) &&
      !isAllowed(subnet, allowConflicting) &&
      !found.some((each) => formatSubnet(each.subnet) === formatSubnet(subnet)),
  );
  const conflicts = [...found, ...(virtualSubnets.length > 0 ? kept : [])];
  for (const conflict of conflicts) {
    if (!virtualSubnets.some(({ address }) => address.length === conflict.subnet.address.length)) {
      throw subnetConflict(formatSubnet(conflict.subnet), await describeRoute(conflict.route, ownerOf));
    }
  }
  if (conflicts.length === 0) {
    return { subnets, translated: [] };
  }
  const families = new Set(conflicts.map(({ subnet }) => subnet.address.length));
  const virtual = virtualSubnets.filter(({ address }) => families.has(address.length));
  const [taken] = findConflicts({ subnets: virtual, allowConflicting: [], routes, device });
  if (taken) {
    throw subnetConflict(formatSubnet(taken.subnet), await describeRoute(taken.route, ownerOf));
  }
  const overlap = virtual.find((each) => subnets.some((subnet) => subnetsOverlap(each, subnet)));
  if (overlap) {
    throw forbiddenSubnet(
      formatSubnet(overlap),
      'the cluster has these addresses, and others are to stand in for them',
    );
  }
  const gone = new Set(conflicts.map(({ subnet }) => formatSubnet(subnet)));
  return { subnets: [...subnets.filter((each) => !gone.has(formatSubnet(each))), ...virtual], translated: conflicts };
}
