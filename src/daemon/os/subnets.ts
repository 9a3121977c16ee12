import {
  formatSubnet,
  type IpBytes,
  maskIp,
  parseSubnet,
  type Subnet,
  subnetContains,
  subnetsOverlap,
} from '../../base/index.ts';
import { forbiddenSubnet, subnetConflict } from '../errors.ts';
import type { ExistingRoute } from './contract.ts';

const never: readonly [string, string][] = [
  ['0.0.0.0/8', 'it is the unspecified network'],
  ['127.0.0.0/8', 'it is loopback'],
  ['169.254.0.0/16', 'it is link-local'],
  ['224.0.0.0/4', 'it is multicast'],
  ['240.0.0.0/4', 'it is reserved'],
  ['::/8', 'it is reserved'],
  ['fe80::/10', 'it is link-local'],
  ['ff00::/8', 'it is multicast'],
];
/** Wider than this is not a cluster's network but somebody's internet. */
const minPrefixLength = { 4: 8, 16: 16 } as const;

/** Checks and reads what a connector wants routed. Errors: `daemon.forbidden-subnet`. */
export function checkSubnets(texts: readonly string[], resolvers: readonly IpBytes[]): Subnet[] {
  return texts.map((text) => {
    const subnet = parseSubnet(text);
    if (!subnet) {
      throw forbiddenSubnet(text, 'it is not a subnet');
    }
    const size = subnet.address.length === 4 ? 4 : 16;
    if (subnet.prefixLength < minPrefixLength[size]) {
      throw forbiddenSubnet(text, 'it is too wide');
    }
    for (const [forbidden, why] of never) {
      const other = parseSubnet(forbidden);
      if (other && subnetsOverlap(subnet, other)) {
        throw forbiddenSubnet(text, why);
      }
    }
    if (resolvers.some((resolver) => subnetContains(subnet, resolver))) {
      throw forbiddenSubnet(text, 'the resolver in use lies in it');
    }
    return subnet;
  });
}

/** The device's own address of a family: the network address of its first subnet, which no pod or service has. */
export function ownAddress(subnets: readonly Subnet[], size: 4 | 16): IpBytes | undefined {
  const first = subnets.find((subnet) => subnet.address.length === size);
  return first && maskIp(first.address, first.prefixLength);
}

/** Errors: `daemon.subnet-conflict`, with the route that is in the way. The default route is none. */
export function checkConflicts(
  wanted: { readonly subnets: readonly Subnet[]; readonly allowConflicting: readonly Subnet[] },
  routes: readonly ExistingRoute[],
  device: string,
): void {
  for (const subnet of wanted.subnets) {
    if (wanted.allowConflicting.some((allowed) => subnetContains(allowed, subnet.address))) {
      continue;
    }
    const conflict = routes.find(
      (route) => route.device !== device && route.subnet.prefixLength > 1 && subnetsOverlap(subnet, route.subnet),
    );
    if (conflict) {
      throw subnetConflict(formatSubnet(subnet), `${formatSubnet(conflict.subnet)} dev ${conflict.device}`);
    }
  }
}
