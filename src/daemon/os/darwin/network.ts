import {
  type Clock,
  type Disposable,
  formatIp,
  formatSubnet,
  type IpBytes,
  type Subnet,
  sleep,
  subnetContains,
} from '../../../base/index.ts';
import { commandFailed } from '../../errors.ts';
import { wantedRoutes } from '../carve.ts';
import type { RunCommand } from '../command.ts';
import type { ExistingRoute, LinkPlan, NetworkBackend } from '../contract.ts';
import { Poll } from '../poll.ts';
import { parseNetstat } from './routes.ts';

export interface DarwinNetworkDeps {
  readonly clock: Clock;
  readonly run: RunCommand;
}

/** No segmentation offload here: the larger the packets, the fewer of them. The first that the device takes. */
const mtusBytes = [65_535, 16_384, 9_000, 1_500];
const pollMs = 5_000;
const settleStepMs = 200;
const settleLimitMs = 3_000;

/**
 * Addresses and routes of the device; all vanish with it. Exceptions are cut out of the subnets instead of being routed
 * elsewhere, so nothing outside of the device is ever touched, and nothing can be left behind.
 */
export class DarwinNetwork implements NetworkBackend, Disposable {
  readonly #clock: Clock;
  readonly #run: RunCommand;
  readonly #poll: Poll;
  #plan: LinkPlan | undefined;
  /** By text, what `ifconfig` wants to remove it again. */
  #addresses = new Map<string, readonly string[]>();
  #routes = new Map<string, Subnet>();

  constructor({ clock, run }: DarwinNetworkDeps) {
    this.#clock = clock;
    this.#run = run;
    this.#poll = new Poll(clock, pollMs, async () => this.#stateOf(await this.routes()));
  }

  get onNetworkChanged() {
    return this.#poll.onStateChanged;
  }

  async routes(): Promise<ExistingRoute[]> {
    const [v4, v6] = await Promise.all([
      this.#run('netstat', ['-rn', '-f', 'inet']),
      this.#run('netstat', ['-rn', '-f', 'inet6']).catch(() => ''),
    ]);
    return [...parseNetstat(v4, 4), ...parseNetstat(v6, 6)];
  }

  /** Errors: `daemon.command-failed`, also when a route did not appear: `route` does not always say so itself. */
  async apply(plan: LinkPlan): Promise<void> {
    const { device } = plan;
    if (this.#plan?.device !== device) {
      await this.#raise(device);
    }
    this.#plan = plan;
    const addresses = new Map(plan.addresses.map((address) => [formatIp(address), addressArguments(address, plan)]));
    for (const [key, args] of addresses) {
      if (!this.#addresses.has(key)) {
        await this.#run('ifconfig', [device, ...args, 'alias']);
        this.#addresses.set(key, args);
      }
    }
    await this.#settle(device);
    await this.#applyRoutes(plan);
    for (const [key, args] of this.#addresses) {
      if (!addresses.has(key)) {
        await this.#run('ifconfig', [device, ...args.slice(0, 2), '-alias']);
        this.#addresses.delete(key);
      }
    }
  }

  dispose(): void {
    this.#poll.dispose();
  }

  async clear(): Promise<void> {
    this.#plan = undefined;
    this.#addresses = new Map();
    this.#routes = new Map();
  }

  async #raise(device: string): Promise<void> {
    await this.clear();
    for (const mtu of mtusBytes) {
      try {
        await this.#run('ifconfig', [device, 'mtu', String(mtu), 'up']);
        return;
      } catch (error) {
        if (mtu === mtusBytes.at(-1)) {
          throw error;
        }
      }
    }
  }

  async #applyRoutes(plan: LinkPlan): Promise<void> {
    const { device } = plan;
    const before = await this.routes();
    const wanted = new Map(wantedRoutes(plan, before).map((subnet) => [formatSubnet(subnet), subnet]));
    for (const [key, subnet] of this.#routes) {
      if (!wanted.has(key)) {
        // Somebody may have been faster.
        await this.#run('route', routeArguments('delete', subnet, device)).catch(() => undefined);
        this.#routes.delete(key);
      }
    }
    const present = ofDevice(before, device);
    for (const [key, subnet] of wanted) {
      if (!present.has(key)) {
        await this.#run('route', routeArguments('add', subnet, device));
      }
      this.#routes.set(key, subnet);
    }
    const after = await this.routes();
    const missing = [...wanted.keys()].find((key) => !ofDevice(after, device).has(key));
    if (missing) {
      throw commandFailed(`route add ${missing}`, 'the route is not in the table');
    }
    this.#poll.accept(this.#stateOf(after));
  }

  /** A new IPv6 address cannot be listened on before the system has looked for another owner of it. */
  async #settle(device: string): Promise<void> {
    if (![...this.#addresses.keys()].some((key) => key.includes(':'))) {
      return;
    }
    const end = this.#clock.nowMs() + settleLimitMs;
    while (
      /^\s*inet6 (?!fe80:).*\btentative\b/m.test(await this.#run('ifconfig', [device])) &&
      this.#clock.nowMs() < end
    ) {
      await sleep(this.#clock, settleStepMs);
    }
  }

  /** What others made, and whether what we made is still there. */
  #stateOf(routes: readonly ExistingRoute[]): string {
    const own = ofDevice(routes, this.#plan?.device);
    const others = routes
      .filter(({ device }) => device !== this.#plan?.device)
      .map(({ subnet, device, gateway }) => `${formatSubnet(subnet)} ${gateway ?? ''} ${device}`);
    return [...others.sort(), ...[...this.#routes.keys()].filter((key) => !own.has(key))].join('\n');
  }
}

function ofDevice(routes: readonly ExistingRoute[], wanted: string | undefined): Set<string> {
  return new Set(routes.filter(({ device }) => device === wanted).map(({ subnet }) => formatSubnet(subnet)));
}

function routeArguments(verb: 'add' | 'delete', subnet: Subnet, device: string): string[] {
  const family = subnet.address.length === 4 ? '-inet' : '-inet6';
  return ['-q', '-n', verb, family, formatSubnet(subnet), '-interface', device];
}

/**
 * The device is point to point: an IPv4 address has a peer, the subnet's address that ends in 1. Nobody answers there,
 * but the system makes a route to it, so it is none that is to keep its route.
 */
function addressArguments(address: IpBytes, { subnets, neverProxy }: LinkPlan): readonly string[] {
  const own = formatIp(address);
  if (address.length === 16) {
    return ['inet6', own, 'prefixlen', '128'];
  }
  const subnet = subnets.find((each) => subnetContains(each, address));
  const peer = Uint8Array.from(address);
  peer[3] = (peer[3] ?? 0) | 1;
  const isOurs = subnet && subnetContains(subnet, peer) && !neverProxy.some((each) => subnetContains(each, peer));
  return ['inet', own, isOurs ? formatIp(peer) : own, 'netmask', formatMask(subnet?.prefixLength ?? 32)];
}

function formatMask(prefixLength: number): string {
  return formatIp(
    Uint8Array.from({ length: 4 }, (_, i) => (0xff00 >> Math.max(0, Math.min(8, prefixLength - i * 8))) & 0xff),
  );
}
