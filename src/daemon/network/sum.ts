import { formatSubnet, type IpBytes, type Subnet, subnetsOverlap } from '../../base/index.ts';
import { windowConflict } from '../errors.ts';

/** What one window wants, checked. */
export interface WindowNetwork {
  readonly cluster: string;
  readonly subnets: readonly Subnet[];
  readonly neverProxy: readonly Subnet[];
  readonly allowConflicting: readonly Subnet[];
  readonly address4: IpBytes | undefined;
  readonly address6: IpBytes | undefined;
}

/** What the device is to carry for all windows together. */
export interface NetworkSum {
  readonly addresses: readonly IpBytes[];
  readonly subnets: readonly Subnet[];
  readonly neverProxy: readonly Subnet[];
  readonly allowConflicting: readonly Subnet[];
}

/**
 * Windows of one cluster share its subnets. Another cluster's must lie beside them: nobody could tell whose a packet is.
 * Errors: `daemon.window-conflict`.
 */
export function checkWindows(wanted: WindowNetwork, others: readonly WindowNetwork[]): void {
  for (const other of others) {
    if (other.cluster !== wanted.cluster) {
      const subnet = wanted.subnets.find((each) => other.subnets.some((its) => subnetsOverlap(each, its)));
      if (subnet) {
        throw windowConflict(formatSubnet(subnet));
      }
    }
  }
}

export function sumOf(windows: readonly WindowNetwork[]): NetworkSum {
  return {
    addresses: distinct(
      windows.flatMap(({ address4, address6 }) => [address4, address6]).filter((each) => each !== undefined),
      (address) => address.join('.'),
    ),
    subnets: distinct(
      windows.flatMap(({ subnets }) => subnets),
      formatSubnet,
    ),
    neverProxy: distinct(
      windows.flatMap(({ neverProxy }) => neverProxy),
      formatSubnet,
    ),
    allowConflicting: distinct(
      windows.flatMap(({ allowConflicting }) => allowConflicting),
      formatSubnet,
    ),
  };
}

function distinct<T>(all: readonly T[], key: (each: T) => string): T[] {
  return [...new Map(all.map((each) => [key(each), each])).values()];
}
