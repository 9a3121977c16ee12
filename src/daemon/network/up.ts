import { type Clock, formatIp, type IpBytes, type Logger, Scope } from '../../base/index.ts';
import { DnsServer } from '../dns/server.ts';
import { UpstreamResolver } from '../dns/upstream.ts';
import { Pipeline } from '../flow/pipeline.ts';
import type { NetworkBackend, Platform, ResolverBackend } from '../os/contract.ts';
import type { TunDevice } from '../tun/device.ts';

export interface NetworkDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly platform: Platform;
  readonly uid: number;
}

/**
 * Ours for questions upstream; the redirect lets them pass. Below the range that programs are given by themselves. One
 * list for every user's daemon, each takes a few: a question that one let pass and the other did not would go round.
 */
export const upstreamPorts = Array.from({ length: 32 }, (_, index) => 30_053 + index);

/** What is up on the machine while at least one window wants it. */
export interface Up {
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

/** Opens the device and starts everything on it. What fails half-way is taken down again. */
export async function bringUp(
  { clock, log, platform, uid }: NetworkDeps,
  resolvers: readonly IpBytes[],
  networkChanged: () => void,
): Promise<Up> {
  const scope = new Scope((error) => log.warn('taking the network down failed in part', { error }));
  try {
    const device = platform.openDevice(platform.deviceName(uid));
    scope.defer(() => device.close());
    const backend = scope.own(platform.createNetwork());
    scope.defer(() => backend.clear());
    scope.own(backend.onNetworkChanged(networkChanged));
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

export async function askUpstream({ upstream, resolver, resolvers }: Up): Promise<void> {
  upstream.setAddresses(((await resolver.upstreams?.()) ?? resolvers).map(formatIp));
}
