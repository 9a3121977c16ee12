import {
  type Clock,
  type Disposable,
  formatIp,
  formatSubnet,
  type IpBytes,
  parseIp,
  parseSubnet,
  type Subnet,
} from '../../../base/index.ts';
import { carve } from '../carve.ts';
import type { RunCommand } from '../command.ts';
import type { ExistingRoute, LinkPlan, NetworkBackend } from '../contract.ts';
import { Poll } from '../poll.ts';
import { ask, listOf } from './powershell.ts';

export interface WindowsNetworkDeps {
  readonly clock: Clock;
  readonly run: RunCommand;
}

/** No segmentation offload here: the larger the packets, the fewer of them. What wintun carries at most. */
const mtuBytes = 65_535;
/** A question costs a PowerShell. */
const pollMs = 15_000;
/** Lower than any that the system gives by itself: for one subnet, the lowest sum of device's and route's metric wins. */
const deviceMetric = 1;

const routesQuestion = 'Get-NetRoute | Select-Object DestinationPrefix, NextHop, InterfaceAlias';

/**
 * Addresses and routes of the adapter, by `netsh`, all of them in the active store only: they vanish with the adapter.
 * Addresses are single ones, because Windows would route the whole subnet with an address; exceptions are cut out.
 */
export class WindowsNetwork implements NetworkBackend, Disposable {
  readonly #run: RunCommand;
  readonly #poll: Poll;
  #plan: LinkPlan | undefined;
  #addresses = new Map<string, IpBytes>();
  #routes = new Map<string, Subnet>();

  constructor({ clock, run }: WindowsNetworkDeps) {
    this.#run = run;
    this.#poll = new Poll(clock, pollMs, async () => this.#stateOf(await this.routes()));
  }

  get onNetworkChanged() {
    return this.#poll.onStateChanged;
  }

  async routes(): Promise<ExistingRoute[]> {
    return listOf(await ask(this.#run, routesQuestion)).flatMap(toRoute);
  }

  async apply(plan: LinkPlan): Promise<void> {
    const { device } = plan;
    if (this.#plan?.device !== device) {
      await this.#raise(device);
    }
    this.#plan = plan;
    const addresses = new Map(plan.addresses.map((address) => [formatIp(address), address]));
    for (const [key, address] of addresses) {
      if (!this.#addresses.has(key)) {
        await this.#run('netsh', addressArguments('add', address, device));
        this.#addresses.set(key, address);
      }
    }
    await this.#applyRoutes(plan);
    for (const [key, address] of this.#addresses) {
      if (!addresses.has(key)) {
        await this.#run('netsh', addressArguments('delete', address, device));
        this.#addresses.delete(key);
      }
    }
    this.#poll.accept(this.#stateOf(await this.routes()));
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
    for (const family of ['ipv4', 'ipv6']) {
      const set = ['interface', family, 'set'];
      await this.#run('netsh', [...set, 'subinterface', device, `mtu=${mtuBytes}`, 'store=active']);
      // Nobody else can have our addresses: they are to be there at once.
      const quick = ['dadtransmits=0', 'routerdiscovery=disabled', `metric=${deviceMetric}`];
      await this.#run('netsh', [...set, 'interface', device, ...quick, 'store=active']);
    }
  }

  async #applyRoutes({ device, subnets, neverProxy }: LinkPlan): Promise<void> {
    const before = await this.routes();
    const present = new Set(
      before.filter((route) => route.device === device).map(({ subnet }) => formatSubnet(subnet)),
    );
    const wanted = new Map(carve(subnets, neverProxy).map((subnet) => [formatSubnet(subnet), subnet]));
    for (const [key, subnet] of this.#routes) {
      if (!wanted.has(key)) {
        // Somebody may have been faster.
        await this.#run('netsh', routeArguments('delete', subnet, device)).catch(() => undefined);
        this.#routes.delete(key);
      }
    }
    for (const [key, subnet] of wanted) {
      if (!present.has(key)) {
        await this.#run('netsh', routeArguments('add', subnet, device));
      }
      this.#routes.set(key, subnet);
    }
  }

  /** What others made, and whether what we made is still there. */
  #stateOf(routes: readonly ExistingRoute[]): string {
    const device = this.#plan?.device;
    const own = new Set(routes.filter((route) => route.device === device).map(({ subnet }) => formatSubnet(subnet)));
    const others = routes
      .filter((route) => route.device !== device)
      .map((route) => `${formatSubnet(route.subnet)} ${route.gateway ?? ''} ${route.device}`);
    return [...others.sort(), ...[...this.#routes.keys()].filter((key) => !own.has(key))].join('\n');
  }
}

function toRoute(item: Readonly<Record<string, unknown>>): ExistingRoute[] {
  const { DestinationPrefix: prefix, NextHop: hop, InterfaceAlias: device } = item;
  const subnet = typeof prefix === 'string' ? parseSubnet(prefix) : undefined;
  if (!subnet || typeof device !== 'string') {
    return [];
  }
  // On the link itself, the next hop is the unspecified address.
  const gateway = typeof hop === 'string' && parseIp(hop)?.some((byte) => byte !== 0) ? hop : undefined;
  return [{ subnet, device, gateway }];
}

function addressArguments(verb: 'add' | 'delete', address: IpBytes, device: string): string[] {
  const text = formatIp(address);
  if (address.length === 16) {
    const own = verb === 'add' ? `${text}/128` : text;
    return ['interface', 'ipv6', verb, 'address', `interface=${device}`, `address=${own}`, 'store=active'];
  }
  const mask = verb === 'add' ? ['mask=255.255.255.255'] : [];
  return ['interface', 'ipv4', verb, 'address', `name=${device}`, `address=${text}`, ...mask, 'store=active'];
}

function routeArguments(verb: 'add' | 'delete', subnet: Subnet, device: string): string[] {
  const [family, hop] = subnet.address.length === 4 ? ['ipv4', '0.0.0.0'] : ['ipv6', '::'];
  const metric = verb === 'add' ? ['metric=0'] : [];
  const route = [`prefix=${formatSubnet(subnet)}`, `interface=${device}`, `nexthop=${hop}`];
  return ['interface', family, verb, 'route', ...route, ...metric, 'store=active'];
}
