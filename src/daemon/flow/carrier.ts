import { type Subnet, subnetContains } from '../../base/index.ts';
import type { DialFrame } from '../../protocol/index.ts';

/** A window's connector, as packets see it: what it carries and where it listens. */
export interface Carrier {
  /** Puts a frame on the dial channel; false when the connector cannot take it. */
  readonly ask: (frame: DialFrame) => boolean;
  subnets: readonly Subnet[];
  address4?: Uint8Array | undefined;
  address6?: Uint8Array | undefined;
  /** Nothing is admitted before the connector listens. */
  port4?: number | undefined;
  port6?: number | undefined;
}

/** Of several windows of one cluster the first carries. */
export function carrierOf(carriers: readonly Carrier[], destination: Uint8Array): Carrier | undefined {
  return carriers.find(({ subnets }) => subnets.some((subnet) => subnetContains(subnet, destination)));
}
