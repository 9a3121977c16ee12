import {
  type IpBytes,
  maskIp,
  parseIp,
  parseSubnet,
  type Subnet,
  subnetContains,
  subnetsOverlap,
} from '../../base/index.ts';
import { forbiddenSubnet } from '../errors.ts';

/** Reserved and never given to anybody, so they may stand in for addresses that are in use here already. */
const reserved = '240.0.0.0/4';
const broadcast = parseIp('255.255.255.255');

const never: readonly [string, string][] = [
  ['0.0.0.0/8', 'it is the unspecified network'],
  ['127.0.0.0/8', 'it is loopback'],
  ['169.254.0.0/16', 'it is link-local'],
  ['224.0.0.0/4', 'it is multicast'],
  [reserved, 'it is reserved'],
  ['::/8', 'it is reserved'],
  ['fe80::/10', 'it is link-local'],
  ['ff00::/8', 'it is multicast'],
];
/** Wider than this is not a cluster's network but somebody's internet. */
const minPrefixLength = { 4: 8, 16: 16 } as const;

/**
 * Checks and reads what a connector wants routed. Virtual ones may be reserved. Errors: `daemon.forbidden-subnet`.
 */
export function checkSubnets(
  texts: readonly string[],
  resolvers: readonly IpBytes[],
  { isVirtual = false } = {},
): Subnet[] {
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
      const isSpared = isVirtual && forbidden === reserved && !(broadcast && subnetContains(subnet, broadcast));
      if (other && !isSpared && subnetsOverlap(subnet, other)) {
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
