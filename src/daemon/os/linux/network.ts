import { Emitter, formatIp, formatSubnet, parseIp, parseSubnet, type Subnet } from '../../../base/index.ts';
import type { RunCommand } from '../command.ts';
import type { ExistingRoute, LinkPlan, NetworkBackend } from '../contract.ts';

/** Addresses and routes of the device. They vanish with it; only exceptions outside of it have to be taken back. */
export class LinuxNetwork implements NetworkBackend {
  readonly #run: RunCommand;
  readonly #changed = new Emitter<void>();
  readonly onNetworkChanged = this.#changed.event;
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

  dispose(): void {}

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
