import {
  type Clock,
  Emitter,
  type Event,
  formatIp,
  type IpBytes,
  type Logger,
  parseSubnet,
  Scope,
  type Subnet,
} from '../../base/index.ts';
import type { DesiredNetwork, DialFrame } from '../../protocol/index.ts';
import { type DnsClient, DnsServer, type LookupResult } from '../dns/server.ts';
import { UpstreamResolver } from '../dns/upstream.ts';
import type { Carrier } from '../flow/carrier.ts';
import { Pipeline } from '../flow/pipeline.ts';
import type { NetworkBackend, Platform, ResolverBackend } from '../os/contract.ts';
import { checkConflicts, checkSubnets, ownAddress } from '../os/subnets.ts';
import type { TunDevice } from '../tun/device.ts';
import { checkWindows, sumOf, type WindowNetwork } from './sum.ts';

export interface NetworkDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly platform: Platform;
  readonly uid: number;
}

/** A window that wants a network: its connector's ends of the dial channel. */
export interface NetworkWindow {
  readonly name: string;
  readonly send: (frame: DialFrame) => boolean;
  readonly lookup: (name: string, qtype: number, signal: AbortSignal) => Promise<LookupResult>;
}

/**
 * Ours for questions upstream; the redirect lets them pass. Below the range that programs are given by themselves. One
 * list for every user's daemon, each takes a few: a question that one let pass and the other did not would go round.
 */
const upstreamPorts = Array.from({ length: 32 }, (_, index) => 30_053 + index);
const trimAfterMs = 2_000;
const searchDevice = 'tel2-search';

/** What is up on the machine while at least one window wants it. */
interface Up {
  readonly scope: Scope;
  readonly device: TunDevice;
  readonly pipeline: Pipeline;
  readonly backend: NetworkBackend;
  readonly resolver: ResolverBackend;
  readonly resolvers: readonly IpBytes[];
  readonly upstream: UpstreamResolver;
  readonly dns: DnsServer;
  readonly dnsHost: string;
  readonly dnsPort: number;
}

interface Wanted extends WindowNetwork {
  readonly desired: DesiredNetwork;
  readonly carrier: Carrier;
  readonly client: DnsClient;
}

export interface Applied {
  readonly device: string;
  readonly subnets: readonly Subnet[];
  readonly dnsAddress: string;
  readonly address4: IpBytes | undefined;
  readonly address6: IpBytes | undefined;
}

/**
 * The machine's network: device, packets, routes, names. It is the sum of what the windows want; it comes with the
 * first window and goes with the last. Callers change it one at a time.
 */
export class MachineNetwork {
  readonly #deps: NetworkDeps;
  readonly #wanted = new Map<NetworkWindow, Wanted>();
  readonly #changed = new Emitter<void>();
  #up: Up | undefined;

  constructor(deps: NetworkDeps) {
    this.#deps = deps;
  }

  /** Errors: `daemon.forbidden-subnet`, `daemon.subnet-conflict`, `daemon.window-conflict`; then nothing has changed. */
  async apply(window: NetworkWindow, desired: DesiredNetwork): Promise<Applied> {
    const resolvers = this.#up?.resolvers ?? (await this.#deps.platform.resolvers());
    const subnets = checkSubnets(desired.subnets, resolvers);
    const address4 = ownAddress(subnets, 4);
    const address6 = ownAddress(subnets, 16);
    const before = this.#wanted.get(window);
    const carrier: Carrier = before?.carrier ?? { ask: window.send, subnets };
    const wanted: Wanted = {
      desired,
      cluster: desired.cluster,
      subnets,
      neverProxy: toSubnets(desired.neverProxy),
      allowConflicting: toSubnets(desired.allowConflicting),
      address4,
      address6,
      carrier,
      client: { dns: desired.dns, subnets, lookup: window.lookup },
    };
    const others = [...this.#wanted].filter(([other]) => other !== window).map(([, each]) => each);
    checkWindows(wanted, others);
    this.#wanted.set(window, wanted);
    try {
      if (!this.#up) {
        this.#up = await this.#bringUp(resolvers);
        this.#deps.clock.after(trimAfterMs, () => this.#deps.platform.trim());
      }
      const up = this.#up;
      checkConflicts(wanted, await up.backend.routes(), up.device.name);
      carrier.subnets = subnets;
      carrier.address4 = address4;
      carrier.address6 = address6;
      await this.#converge(up);
      return { device: up.device.name, subnets, dnsAddress: `${up.dnsHost}:${up.dnsPort}`, address4, address6 };
    } catch (error) {
      await this.#restore(window, before);
      throw error;
    }
  }

  /** Where the window's connector listens on the device's addresses. False for a window without a network. */
  listen(window: NetworkWindow, ports: { port4?: number | undefined; port6?: number | undefined }): boolean {
    const carrier = this.#wanted.get(window)?.carrier;
    if (carrier) {
      carrier.port4 = ports.port4;
      carrier.port6 = ports.port6;
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
    if (up) {
      await up.scope.dispose();
      this.#deps.log.info('network is down');
    }
  }

  get status() {
    const up = this.#up;
    const all = [...this.#wanted.values()];
    const [first] = all;
    return {
      subnets: [...new Set(all.flatMap(({ desired }) => desired.subnets))],
      flows: up?.pipeline.flows ?? { tcp: 0, udp: 0, halfOpen: 0 },
      drops: up?.pipeline.drops ?? {},
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
    const routes = await up.backend.routes();
    for (const wanted of this.#wanted.values()) {
      try {
        checkConflicts(wanted, routes, up.device.name);
      } catch (error) {
        this.#deps.log.warn('a route of another program overlaps by now', { error });
      }
    }
    await this.#converge(up);
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

  async #bringUp(resolvers: readonly IpBytes[]): Promise<Up> {
    const { clock, log, platform, uid } = this.#deps;
    const scope = new Scope((error) => log.warn('taking the network down failed in part', { error }));
    try {
      const device = platform.openDevice(platform.deviceName(uid));
      scope.defer(() => device.close());
      const backend = scope.own(platform.createNetwork());
      scope.defer(() => backend.clear());
      scope.own(backend.onNetworkChanged(() => this.#changed.fire()));
      const pipeline = scope.own(new Pipeline({ device, clock }));
      pipeline.start();
      const addresses = resolvers.map(formatIp);
      const dnsLog = log.child('dns');
      const upstream = scope.own(new UpstreamResolver({ addresses, clock, log: dnsLog, sourcePorts: upstreamPorts }));
      const dns = scope.own(new DnsServer({ clock, log: dnsLog, upstream }));
      // Over IPv6 too: the machine's next resolver may be asked so.
      const place = platform.nameServer?.(uid);
      const dnsPort = await dns.listen({ ipv6: place === undefined, ...(place ? { place } : {}) });
      const dnsHost = place?.address ?? '127.0.0.1';
      const resolver = await platform.createResolver(uid);
      scope.defer(() => resolver.clear());
      await platform.firewall.open(device.name);
      scope.defer(() => platform.firewall.close(device.name));
      log.info('network is up', { device: device.name });
      return { scope, device, pipeline, backend, resolver, resolvers, upstream, dns, dnsHost, dnsPort };
    } catch (error) {
      await scope.dispose();
      throw error;
    }
  }
}

async function askUpstream({ upstream, resolver, resolvers }: Up): Promise<void> {
  upstream.setAddresses(((await resolver.upstreams?.()) ?? resolvers).map(formatIp));
}

function toSubnets(texts: readonly string[]): Subnet[] {
  return texts.map(parseSubnet).filter((each) => each !== undefined);
}
