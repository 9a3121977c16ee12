import {
  formatIp,
  formatSubnet,
  type IpBytes,
  maskIp,
  parseIp,
  parseSubnet,
  type Subnet,
  subnetContains,
  subnetsOverlap,
} from '../../base/index.ts';
import { forbiddenSubnet, subnetConflict } from '../errors.ts';
import type { RunCommand } from './command.ts';

export interface LinkPlan {
  readonly device: string;
  readonly addresses: readonly IpBytes[];
  readonly subnets: readonly Subnet[];
  /** Parts of the subnets that keep the route they have. */
  readonly neverProxy: readonly Subnet[];
}

export interface ExistingRoute {
  readonly subnet: Subnet;
  readonly device: string;
  readonly gateway: string | undefined;
}

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
export function checkConflicts(subnets: readonly Subnet[], routes: readonly ExistingRoute[], device: string): void {
  for (const subnet of subnets) {
    const conflict = routes.find(
      (route) => route.device !== device && route.subnet.prefixLength > 1 && subnetsOverlap(subnet, route.subnet),
    );
    if (conflict) {
      throw subnetConflict(formatSubnet(subnet), `${formatSubnet(conflict.subnet)} dev ${conflict.device}`);
    }
  }
}

/** Addresses and routes of the device. They vanish with it; only exceptions outside of it have to be taken back. */
export class LinuxNetwork {
  readonly #run: RunCommand;
  #applied: LinkPlan | undefined;

  constructor(run: RunCommand) {
    this.#run = run;
  }

  async routes(): Promise<ExistingRoute[]> {
    const texts = await Promise.all([
      this.#run('ip', ['-j', '-4', 'route', 'show']),
      this.#run('ip', ['-j', '-6', 'route', 'show']).catch(() => '[]'),
    ]);
    return texts.flatMap((text) => parseRoutes(text));
  }

  async apply(plan: LinkPlan): Promise<void> {
    const before = this.#applied;
    const isNew = before?.device !== plan.device;
    const { device } = plan;
    if (isNew) {
      await this.#run('ip', ['link', 'set', 'dev', device, 'mtu', '1500', 'txqueuelen', '1000', 'up']);
    }
    for (const address of plan.addresses) {
      await this.#run('ip', ['address', 'replace', `${formatIp(address)}/${address.length * 8}`, 'dev', device]);
    }
    const wanted = new Set(plan.subnets.map(formatSubnet));
    for (const gone of (before?.subnets ?? []).map(formatSubnet).filter((each) => !wanted.has(each))) {
      await this.#run('ip', ['route', 'delete', gone, 'dev', device]).catch(() => undefined);
    }
    for (const subnet of plan.subnets) {
      // BBR, the default on some machines, paces: it halves a TUN's throughput.
      const route = ['route', 'replace', formatSubnet(subnet), 'dev', device];
      await this.#run('ip', [...route, 'congctl', 'cubic']).catch(() => this.#run('ip', route));
    }
    for (const each of plan.neverProxy) {
      await this.#keepRoute(each, device);
    }
    this.#applied = plan;
  }

  /** A more specific route that goes where the packets went before. */
  async #keepRoute(subnet: Subnet, device: string): Promise<void> {
    const [present] = JSON.parse(await this.#run('ip', ['-j', 'route', 'get', formatIp(subnet.address)])) as {
      gateway?: string;
      dev?: string;
    }[];
    if (present?.dev && present.dev !== device) {
      const via = present.gateway ? ['via', present.gateway] : [];
      await this.#run('ip', ['route', 'replace', formatSubnet(subnet), ...via, 'dev', present.dev, 'proto', routeMark]);
    }
  }

  async clear(): Promise<void> {
    this.#applied = undefined;
    await removeMarkedRoutes(this.#run);
  }
}

/** Our mark on routes that are not the device's: a protocol number of our own, by which a later daemon finds them. */
const routeMark = '77';

/** Needs no memory: what is marked is ours. */
export async function removeMarkedRoutes(run: RunCommand): Promise<void> {
  await run('ip', ['route', 'flush', 'proto', routeMark]).catch(() => undefined);
  await run('ip', ['-6', 'route', 'flush', 'proto', routeMark]).catch(() => undefined);
}

export function parseRoutes(json: string): ExistingRoute[] {
  const parsed = JSON.parse(json || '[]') as { dst?: string; dev?: string; gateway?: string }[];
  return parsed.flatMap(({ dst, dev, gateway }) => {
    const ip = parseIp(dst ?? '');
    const subnet = parseSubnet(dst ?? '') ?? (ip ? { address: ip, prefixLength: ip.length * 8 } : undefined);
    return subnet && dev ? [{ subnet, device: dev, gateway }] : [];
  });
}
