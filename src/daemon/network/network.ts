import {
  Emitter,
  type Event,
  formatIp,
  formatSubnet,
  type IpBytes,
  parseSubnet,
  type Subnet,
} from '../../base/index.ts';
import type { DesiredNetwork, DialFrame, HealthCondition } from '../../protocol/index.ts';
import type { DnsClient, LookupResult } from '../dns/server.ts';
import type { Carrier } from '../flow/carrier.ts';
import type { ExistingRoute, NetworkBackend } from '../os/contract.ts';
import { checkSubnets, ownAddress } from '../os/subnets.ts';
import { type Conflict, describeRoute, findConflicts, type OwnerOf, placeSubnets } from './conflicts.ts';
import { checkWindows, sumOf, type WindowNetwork } from './sum.ts';
import { askUpstream, bringUp, type NetworkDeps, type Up, upstreamPorts } from './up.ts';

/** A window that wants a network: its connector's ends of the dial channel. */
export interface NetworkWindow {
  readonly name: string;
  readonly send: (frame: DialFrame) => boolean;
  readonly lookup: (name: string, qtype: number, signal: AbortSignal) => Promise<LookupResult>;
  /** What it has was changed without its asking: a route of another program got in the way. */
  readonly changed: (applied: Applied) => void;
}

const trimAfterMs = 2_000;
const searchDevice = 'tel2-search';

interface Wanted extends WindowNetwork {
  readonly desired: DesiredNetwork;
  readonly translated: readonly Conflict[];
  readonly carrier: Carrier;
  readonly client: DnsClient;
}

export interface Applied {
  readonly device: string;
  readonly subnets: readonly Subnet[];
  readonly dnsAddress: string;
  readonly address4: IpBytes | undefined;
  readonly address6: IpBytes | undefined;
  readonly translated: readonly { readonly subnet: string; readonly route: string }[];
}

/**
 * The machine's network: device, packets, routes, names. It is the sum of what the windows want; it comes with the
 * first window and goes with the last. Callers change it one at a time.
 */
export class MachineNetwork {
  readonly #deps: NetworkDeps;
  readonly #wanted = new Map<NetworkWindow, Wanted>();
  readonly #changed = new Emitter<void>();
  readonly #conditionsChanged = new Emitter<readonly HealthCondition[]>();
  /** What is wrong by now and was not when it was applied. */
  readonly onConditionsChanged = this.#conditionsChanged.event;
  #conditions: readonly HealthCondition[] = [];
  #up: Up | undefined;

  constructor(deps: NetworkDeps) {
    this.#deps = deps;
  }

  /** Errors: `daemon.forbidden-subnet`, `daemon.subnet-conflict`, `daemon.window-conflict`; then nothing has changed. */
  async apply(window: NetworkWindow, desired: DesiredNetwork): Promise<Applied> {
    const resolvers = this.#up?.resolvers ?? (await this.#deps.platform.resolvers());
    checkSubnets(desired.subnets, resolvers);
    checkSubnets(desired.virtualSubnets, resolvers, { isVirtual: true });
    const before = this.#wanted.get(window);
    try {
      if (!this.#up) {
        this.#up = await bringUp(this.#deps, resolvers, () => this.#changed.fire());
        this.#deps.clock.after(trimAfterMs, () => this.#deps.platform.trim());
      }
      const up = this.#up;
      const wanted = await this.#place(up, window, desired, before);
      checkWindows(
        wanted,
        [...this.#wanted].filter(([other]) => other !== window).map(([, each]) => each),
      );
      this.#wanted.set(window, wanted);
      await this.#converge(up);
      await this.#checkConditions(up, await up.backend.routes());
      return await describe(up, wanted);
    } catch (error) {
      await this.#restore(window, before);
      throw error;
    }
  }

  /** What a window gets of what it asks for, as the machine's routes are now. */
  async #place(up: Up, window: NetworkWindow, desired: DesiredNetwork, before: Wanted | undefined): Promise<Wanted> {
    const allowConflicting = toSubnets(desired.allowConflicting);
    const question = {
      subnets: toSubnets(desired.subnets),
      allowConflicting,
      routes: await up.backend.routes(),
      device: up.device.name,
    };
    const virtualSubnets = toSubnets(desired.virtualSubnets);
    const { subnets, translated } = await placeSubnets(
      question,
      virtualSubnets,
      before?.translated ?? [],
      ownerOf(up.backend),
    );
    return {
      desired,
      translated,
      cluster: desired.cluster,
      subnets,
      neverProxy: toSubnets(desired.neverProxy),
      allowConflicting,
      address4: ownAddress(subnets, 4),
      address6: ownAddress(subnets, 16),
      carrier: before?.carrier ?? { ask: window.send, subnets },
      client: { dns: desired.dns, subnets, lookup: window.lookup },
    };
  }

  /** Where the window's connector listens on the device's addresses. False for a window without a network. */
  listen(window: NetworkWindow, ports: { port4?: number | undefined; port6?: number | undefined }): boolean {
    const carrier = this.#wanted.get(window)?.carrier;
    if (carrier) {
      carrier.port4 = ports.port4;
      carrier.port6 = ports.port6;
      // What was answered until now may have had other addresses.
      this.#up?.dns.forget();
    }
    return carrier !== undefined;
  }

  /** An answer or datagram of the window's connector. */
  receive(window: NetworkWindow, frame: DialFrame): void {
    const wanted = this.#wanted.get(window);
    if (wanted) {
      this.#up?.pipeline.receive(wanted.carrier, frame);
    }
  }

  /** Sends what came of the frames just received. */
  flush(): void {
    this.#up?.pipeline.flush();
  }

  async remove(window: NetworkWindow): Promise<void> {
    if (this.#wanted.has(window)) {
      await this.#restore(window, undefined);
    }
  }

  async clear(): Promise<void> {
    const up = this.#up;
    this.#up = undefined;
    this.#wanted.clear();
    this.#conditions = [];
    if (up) {
      await up.scope.dispose();
      this.#deps.log.info('network is down');
    }
  }

  /** Packets wait in the device and nobody reads them. Asked at intervals: see the device. */
  hasStalled(): boolean {
    return this.#up?.device.hasStalled?.() ?? false;
  }

  /** After sleep: what a name was answered with may be gone. */
  forgetNames(): void {
    this.#up?.dns.forget();
  }

  get status() {
    const up = this.#up;
    const all = [...this.#wanted.values()];
    const [first] = all;
    return {
      subnets: [...new Set(all.flatMap(({ subnets }) => subnets.map(formatSubnet)))],
      flows: up?.pipeline.flows ?? { tcp: 0, udp: 0, halfOpen: 0, short: 0 },
      drops: up?.pipeline.drops ?? {},
      conditions: [...this.#conditions],
      ...(up ? { device: up.device.name, resolver: up.resolver.kind } : {}),
      ...(up && first
        ? {
            dns: {
              localAddress: `${up.dnsHost}:${up.dnsPort}`,
              excludeSuffixes: first.desired.dns.excludeSuffixes,
              includeSuffixes: first.desired.dns.includeSuffixes,
              timeoutMs: first.desired.dns.timeoutMs,
              stats: up.dns.stats,
            },
          }
        : {}),
    };
  }

  /** A window goes, or goes back to what it had. The rest stays as it is. */
  async #restore(window: NetworkWindow, before: Wanted | undefined): Promise<void> {
    const gone = this.#wanted.get(window);
    if (before) {
      this.#wanted.set(window, before);
    } else {
      this.#wanted.delete(window);
    }
    if (this.#wanted.size === 0) {
      await this.clear();
    } else if (this.#up) {
      if (gone && !before) {
        this.#up.pipeline.forget(gone.carrier);
      }
      await this.#converge(this.#up).catch((error: unknown) =>
        this.#deps.log.error('the network could not be restored', { error }),
      );
    }
  }

  /** The machine's routes changed, not by us. `reapply` puts right what can be put right. */
  get onNetworkChanged(): Event<void> {
    return this.#changed.event;
  }

  /** A route of ours that is gone comes back. What overlaps by now is said, and left alone: never beside another change. */
  async reapply(): Promise<void> {
    const up = this.#up;
    if (!up) {
      return;
    }
    const moved: [NetworkWindow, Wanted][] = [];
    for (const [window, wanted] of this.#wanted) {
      try {
        const placed = await this.#place(up, window, wanted.desired, wanted);
        if (placed.translated.length !== wanted.translated.length) {
          this.#deps.log.info('a route of another program overlaps by now: addresses are translated');
          this.#wanted.set(window, placed);
          moved.push([window, placed]);
        }
      } catch (error) {
        this.#deps.log.warn('a route of another program overlaps by now', { error });
      }
    }
    await this.#converge(up);
    // Not before the new addresses lead here: names change over with it.
    for (const [window, placed] of moved) {
      window.changed(await describe(up, placed));
    }
    await this.#checkConditions(up, await up.backend.routes());
  }

  get conditions(): readonly HealthCondition[] {
    return this.#conditions;
  }

  /** A subnet that is ours and has become another program's too: who has the longer prefix gets the packets. */
  async #checkConditions(up: Up, routes: readonly ExistingRoute[]): Promise<void> {
    const conflicts = [...this.#wanted.values()].flatMap(({ subnets, allowConflicting }) =>
      findConflicts({ subnets, allowConflicting, routes, device: up.device.name }),
    );
    const conditions: HealthCondition[] = [];
    for (const { subnet, route } of conflicts) {
      conditions.push({
        name: `daemon.subnet-conflict ${formatSubnet(subnet)}`,
        severity: 'warn',
        sentence: 'The subnet {0} of the cluster overlaps with the route {1}.',
        args: [formatSubnet(subnet), await describeRoute(route, ownerOf(up.backend))],
      });
    }
    if (JSON.stringify(conditions) !== JSON.stringify(this.#conditions)) {
      this.#conditions = conditions;
      this.#conditionsChanged.fire(conditions);
    }
  }

  /** Another network, another resolver: called now and then, and never beside another change. */
  async checkResolvers(): Promise<void> {
    const up = this.#up;
    const resolvers = up && (await this.#deps.platform.resolvers());
    if (
      up &&
      resolvers &&
      resolvers.length > 0 &&
      resolvers.map(formatIp).join() !== up.resolvers.map(formatIp).join()
    ) {
      this.#deps.log.info('the machine has other resolvers', { resolvers: resolvers.map(formatIp) });
      this.#up = { ...up, resolvers };
      await this.#converge(this.#up);
    } else if (up) {
      await askUpstream(up);
    }
  }

  async #converge(up: Up): Promise<void> {
    const { backend, pipeline, dns, dnsPort, device, resolver, resolvers } = up;
    const all = [...this.#wanted.values()];
    for (const { carrier, subnets, address4, address6 } of all) {
      Object.assign(carrier, { subnets, address4, address6 });
    }
    await backend.apply({ device: device.name, ...sumOf(all) });
    pipeline.carriers = all.map(({ carrier }) => carrier);
    dns.configure(all.map(({ client }) => client));
    const domains = all.flatMap(({ desired }) => [
      ...desired.dns.routedDomains,
      ...desired.dns.includeSuffixes.map((suffix) => suffix.replace(/^\./, '')),
      desired.dns.clusterDomain,
    ]);
    await resolver.apply({
      device: device.name,
      port: dnsPort,
      resolvers,
      sourcePorts: upstreamPorts,
      routedDomains: [...new Set(domains)],
      searchDomains: [...new Set([searchDevice, ...all.map(({ desired }) => desired.dns.namespace)])],
      subnets: all.flatMap(({ subnets }) => subnets),
    });
    await askUpstream(up);
  }
}

function ownerOf(backend: NetworkBackend): OwnerOf {
  return async (route) => backend.ownerOf?.(route);
}

async function describe(up: Up, { subnets, address4, address6, translated }: Wanted): Promise<Applied> {
  return {
    device: up.device.name,
    subnets,
    dnsAddress: `${up.dnsHost}:${up.dnsPort}`,
    address4,
    address6,
    translated: await Promise.all(
      translated.map(async ({ subnet, route }) => ({
        subnet: formatSubnet(subnet),
        route: await describeRoute(route, ownerOf(up.backend)),
      })),
    ),
  };
}

function toSubnets(texts: readonly string[]): Subnet[] {
  return texts.map(parseSubnet).filter((each) => each !== undefined);
}
