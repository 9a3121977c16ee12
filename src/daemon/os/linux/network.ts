import { type Clock, formatIp, formatSubnet, parseIp, parseSubnet, type Subnet } from '../../../base/index.ts';
import { wantedRoutes } from '../carve.ts';
import type { RunCommand } from '../command.ts';
import type { ExistingRoute, LinkPlan, NetworkBackend } from '../contract.ts';
import { Poll } from '../poll.ts';
import { ownerOfDevice } from './route-owner.ts';

const pollMs = 5_000;
/** A burst of datagrams or SYNs waits for the daemon here: of 2,000 at once a queue of 1,000 lost every third. */
const queuePackets = 4_000;

/**
 * Addresses and routes of the device; all vanish with it. Exceptions are cut out of the subnets instead of being routed
 * elsewhere, so nothing outside of the device is ever touched, and nothing can be left behind.
 */
export class LinuxNetwork implements NetworkBackend {
  readonly #run: RunCommand;
  readonly #poll: Poll;
  #plan: LinkPlan | undefined;
  #addresses = new Set<string>();
  #routes = new Map<string, Subnet>();

  constructor(run: RunCommand, clock: Clock) {
    this.#run = run;
    this.#poll = new Poll(clock, pollMs, async () => this.#stateOf(await this.routes()));
  }

  /** Looked for every few seconds: a VPN that comes up, a new default route, a route of ours that somebody removed. */
  get onNetworkChanged() {
    return this.#poll.onStateChanged;
  }

  async routes(): Promise<ExistingRoute[]> {
    const texts = await Promise.all([
      this.#run('ip', ['-j', '-4', 'route', 'show']),
      this.#run('ip', ['-j', '-6', 'route', 'show']).catch(() => '[]'),
    ]);
    return texts.flatMap((text) => parseRoutes(text));
  }

  ownerOf({ device }: ExistingRoute): Promise<string | undefined> {
    return ownerOfDevice(device, { run: this.#run });
  }

  async apply(plan: LinkPlan): Promise<void> {
    const { device } = plan;
    if (this.#plan?.device !== device) {
      await this.clear();
      await this.#run('ip', ['link', 'set', 'dev', device, 'mtu', '1500', 'txqueuelen', String(queuePackets), 'up']);
    }
    this.#plan = plan;
    const addresses = new Set(plan.addresses.map((address) => `${formatIp(address)}/${address.length * 8}`));
    for (const address of addresses) {
      await this.#run('ip', ['address', 'replace', address, 'dev', device]);
      this.#addresses.add(address);
    }
    await this.#applyRoutes(plan);
    for (const address of this.#addresses) {
      if (!addresses.has(address)) {
        await this.#run('ip', ['address', 'delete', address, 'dev', device]).catch(() => undefined);
        this.#addresses.delete(address);
      }
    }
    this.#poll.accept(this.#stateOf(await this.routes()));
  }

  dispose(): void {
    this.#poll.dispose();
  }

  async clear(): Promise<void> {
    this.#plan = undefined;
    this.#addresses = new Set();
    this.#routes = new Map();
  }

  async #applyRoutes(plan: LinkPlan): Promise<void> {
    const { device } = plan;
    const before = await this.routes();
    const wanted = new Map(wantedRoutes(plan, before).map((subnet) => [formatSubnet(subnet), subnet]));
    for (const key of this.#routes.keys()) {
      if (!wanted.has(key)) {
        // Somebody may have been faster.
        await this.#run('ip', ['route', 'delete', key, 'dev', device]).catch(() => undefined);
        this.#routes.delete(key);
      }
    }
    const present = ofDevice(before, device);
    for (const [key, subnet] of wanted) {
      if (!present.has(key)) {
        // BBR, the default on some machines, paces: it halves a TUN's throughput.
        const route = ['route', 'add', key, 'dev', device];
        await this.#run('ip', [...route, 'congctl', 'cubic']).catch(() => this.#run('ip', route));
      }
      this.#routes.set(key, subnet);
    }
  }

  /** What others made, and which of ours are missing. */
  #stateOf(routes: readonly ExistingRoute[]): string {
    const device = this.#plan?.device;
    const own = ofDevice(routes, device);
    const others = routes
      .filter((route) => route.device !== device)
      .map((route) => `${formatSubnet(route.subnet)} ${route.gateway ?? ''} ${route.device}`);
    return [...others.sort(), ...[...this.#routes.keys()].filter((key) => !own.has(key))].join('\n');
  }
}

function ofDevice(routes: readonly ExistingRoute[], wanted: string | undefined): Set<string> {
  return new Set(routes.filter(({ device }) => device === wanted).map(({ subnet }) => formatSubnet(subnet)));
}

export function parseRoutes(json: string): ExistingRoute[] {
  const parsed = JSON.parse(json || '[]') as { dst?: string; dev?: string; gateway?: string }[];
  return parsed.flatMap(({ dst, dev, gateway }) => {
    const ip = parseIp(dst ?? '');
    const subnet = parseSubnet(dst ?? '') ?? (ip ? { address: ip, prefixLength: ip.length * 8 } : undefined);
    return subnet && dev ? [{ subnet, device: dev, gateway }] : [];
  });
}
