import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import {
  type Clock,
  formatIp,
  formatSubnet,
  type IpBytes,
  type Logger,
  parseIp,
  parseSubnet,
  Scope,
  withTimeout,
} from '../base/index.ts';
import {
  type AppliedNetwork,
  clientVersion,
  type DaemonStatus,
  type DesiredNetwork,
  type DialFrame,
  daemonSocketPaths,
} from '../protocol/index.ts';
import { type ControlClient, createControlServer } from './control/server.ts';
import { createDialServer, type DialChannel, type DialClient } from './dial/channel.ts';
import { DnsServer, type LookupResult } from './dns/server.ts';
import { UpstreamResolver } from './dns/upstream.ts';
import { alreadyRunning, inUse, notAttached } from './errors.ts';
import { Pipeline } from './flow/pipeline.ts';
import type { RunCommand } from './os/command.ts';
import { closeFirewall, openFirewall } from './os/firewall.ts';
import { checkConflicts, checkSubnets, LinuxNetwork, ownAddress, removeMarkedRoutes } from './os/network.ts';
import { DnsRedirect, removeStaleTables } from './os/nft.ts';
import type { TunDevice } from './tun/device.ts';

export interface DaemonDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly run: RunCommand;
  readonly openDevice: (name: string) => TunDevice;
  readonly resolvConf: () => string;
}

export interface DaemonOptions {
  readonly uid: number;
  readonly gid: number;
  readonly runtimeDirectory: string;
  readonly idleExitMs: number;
}

const probeTimeoutMs = 1_000;
/** Ours for questions upstream; the redirect lets them pass. Below the range that programs are given by themselves. */
const upstreamPorts = [30_053, 30_054, 30_055, 30_056, 30_057, 30_058, 30_059, 30_060];
const servfail = 2;

/** The network of the connector that is connected. */
interface Active {
  readonly client: ControlClient;
  readonly scope: Scope;
  readonly device: TunDevice;
  readonly pipeline: Pipeline;
  readonly network: LinuxNetwork;
  readonly dns: DnsServer;
  readonly dnsAddress: string;
  desired: DesiredNetwork;
  addresses: { readonly v4: IpBytes | undefined; readonly v6: IpBytes | undefined };
}

/** The root process's core: one user's, one network at a time. */
export class Daemon {
  readonly #deps: DaemonDeps;
  readonly #options: DaemonOptions;
  readonly #scope = new Scope();
  readonly #clients = new Map<string, ControlClient>();
  readonly #channels = new Map<string, DialChannel>();
  readonly #lookups = new Map<number, (result: LookupResult) => void>();
  readonly #startedMs: number;
  readonly #ended = Promise.withResolvers<void>();
  #active: Active | undefined;
  #applying: Promise<unknown> = Promise.resolve();
  #nextLookup = 1;
  #idleSinceMs: number;

  constructor(deps: DaemonDeps, options: DaemonOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#startedMs = deps.clock.nowMs();
    this.#idleSinceMs = this.#startedMs;
  }

  /** Resolves when the daemon is to exit. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Errors: `daemon.already-running`. Whatever a killed predecessor left is removed first. */
  async start(): Promise<void> {
    const { uid, gid, runtimeDirectory, idleExitMs } = this.#options;
    const { clock, log, run } = this.#deps;
    const paths = daemonSocketPaths(uid, runtimeDirectory);
    if (await answers(paths.control, clock)) {
      throw alreadyRunning();
    }
    await cleanUp(run, uid);
    mkdirSync(runtimeDirectory, { recursive: true, mode: 0o755 });
    mkdirSync(paths.directory, { recursive: true, mode: 0o700 });
    chownSync(paths.directory, uid, gid);
    chmodSync(paths.directory, 0o700);
    const control = createControlServer({ uid, log: log.child('control'), handlers: this.#handlers() });
    const dial = createDialServer({ clock, log: log.child('dial'), claim: (token) => this.#claim(token) });
    for (const [server, path] of [
      [control, paths.control],
      [dial, paths.dial],
    ] as const) {
      await listen(server, path);
      chownSync(path, uid, gid);
      chmodSync(path, 0o600);
      this.#scope.defer(() => {
        server.close();
        rmSync(path, { force: true });
      });
    }
    this.#scope.own(
      clock.every(1_000, () => {
        if (this.#clients.size === 0 && clock.nowMs() - this.#idleSinceMs > idleExitMs) {
          log.info('nobody is connected: ending');
          this.#ended.resolve();
        }
      }),
    );
    log.info('daemon is ready', { version: clientVersion, uid });
  }

  async stop(): Promise<void> {
    await this.#takeDown();
    for (const channel of this.#channels.values()) {
      channel.close();
    }
    await this.#scope.dispose();
    await cleanUp(this.#deps.run, this.#options.uid);
  }

  #handlers() {
    return {
      attached: (client: ControlClient) => {
        this.#clients.set(client.token, client);
      },
      apply: (client: ControlClient, network: DesiredNetwork) => this.#serially(() => this.#apply(client, network)),
      listen: (client: ControlClient, { port4, port6 }: { port4?: number | undefined; port6?: number | undefined }) => {
        const active = this.#active;
        if (active?.client !== client) {
          throw notAttached();
        }
        active.pipeline.ends = { address4: active.addresses.v4, address6: active.addresses.v6, port4, port6 };
      },
      status: () => this.#status(),
      detached: (client: ControlClient) => this.#serially(() => this.#detach(client)),
      quit: async () => {
        if (this.#clients.size > 1) {
          throw inUse();
        }
        this.#deps.clock.after(50, () => this.#ended.resolve());
      },
    };
  }

  /** Changes of the network happen one after the other. */
  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#applying.then(work, work);
    this.#applying = result.catch(() => undefined);
    return result;
  }

  async #apply(client: ControlClient, desired: DesiredNetwork): Promise<AppliedNetwork> {
    if (!this.#clients.has(client.token)) {
      throw notAttached();
    }
    if (this.#active && this.#active.client !== client) {
      throw inUse();
    }
    const resolvers = resolversOf(this.#deps.resolvConf());
    const subnets = checkSubnets(desired.subnets, resolvers);
    const neverProxy = desired.neverProxy.map(parseSubnet).filter((each) => each !== undefined);
    const active = this.#active ?? (await this.#bringUp(client, desired, resolvers));
    const addresses = { v4: ownAddress(subnets, 4), v6: ownAddress(subnets, 16) };
    try {
      checkConflicts(subnets, await active.network.routes(), active.device.name);
      const own = [addresses.v4, addresses.v6].filter((each) => each !== undefined);
      await active.network.apply({ device: active.device.name, addresses: own, subnets, neverProxy });
    } catch (error) {
      await this.#takeDown();
      throw error;
    }
    active.desired = desired;
    active.addresses = addresses;
    active.dns.configure(desired.dns);
    return {
      device: active.device.name,
      subnets: subnets.map(formatSubnet),
      dnsAddress: active.dnsAddress,
      ...(addresses.v4 ? { address4: formatIp(addresses.v4) } : {}),
      ...(addresses.v6 ? { address6: formatIp(addresses.v6) } : {}),
    };
  }

  async #bringUp(client: ControlClient, desired: DesiredNetwork, resolvers: readonly IpBytes[]): Promise<Active> {
    const { clock, log, run, openDevice } = this.#deps;
    const { uid } = this.#options;
    const scope = new Scope((error) => log.warn('taking the network down failed in part', { error }));
    try {
      const device = openDevice(uid === 0 ? 'nf0' : `nf${uid}`.slice(0, 15));
      scope.defer(() => device.close());
      const network = new LinuxNetwork(run);
      scope.defer(() => network.clear());
      const pipeline = scope.own(
        new Pipeline({ device, clock, ask: (frame) => this.#channels.get(client.token)?.send(frame) ?? false }),
      );
      pipeline.start();
      const upstream = scope.own(
        new UpstreamResolver({
          address: formatIp(resolvers[0] ?? Uint8Array.of(127, 0, 0, 1)),
          clock,
          sourcePorts: upstreamPorts,
        }),
      );
      const dns = scope.own(
        new DnsServer({
          clock,
          log: log.child('dns'),
          upstream,
          lookup: (name, qtype, signal) => this.#lookup(client, name, qtype, signal),
        }),
      );
      const port = await dns.listen();
      dns.configure(desired.dns);
      const redirect = new DnsRedirect(clock, log.child('nft'), uid);
      scope.defer(() => redirect.clear());
      await redirect.apply({ resolvers, port, sourcePorts: upstreamPorts });
      await openFirewall(run, device.name);
      scope.defer(() => closeFirewall(run, device.name));
      const active: Active = {
        client,
        scope,
        device,
        pipeline,
        network,
        dns,
        dnsAddress: `127.0.0.1:${port}`,
        desired,
        addresses: { v4: undefined, v6: undefined },
      };
      this.#active = active;
      log.info('network is up', { device: device.name, client: client.name });
      return active;
    } catch (error) {
      await scope.dispose();
      throw error;
    }
  }

  async #detach(client: ControlClient): Promise<void> {
    if (this.#clients.delete(client.token)) {
      this.#channels.get(client.token)?.close();
      this.#channels.delete(client.token);
      this.#idleSinceMs = this.#deps.clock.nowMs();
      if (this.#active?.client === client) {
        await this.#takeDown();
      }
    }
  }

  async #takeDown(): Promise<void> {
    const active = this.#active;
    this.#active = undefined;
    if (active) {
      await active.scope.dispose();
      this.#deps.log.info('network is down');
    }
  }

  #claim(token: string): DialClient | undefined {
    const client = this.#clients.get(token);
    if (!client || this.#channels.has(token)) {
      return undefined;
    }
    return {
      connected: (channel) => void this.#channels.set(token, channel),
      received: (frame) => this.#receive(client, frame),
      closed: () => void this.#channels.delete(token),
    };
  }

  #receive(client: ControlClient, frame: DialFrame): void {
    if (frame.type === 'lookup-answer') {
      const { rcode, records } = frame;
      this.#lookups.get(frame.id)?.({ rcode, records: Uint8Array.from(records) });
      this.#lookups.delete(frame.id);
    } else if (this.#active?.client === client) {
      this.#active.pipeline.receive(frame);
    }
  }

  #lookup(client: ControlClient, name: string, qtype: number, signal: AbortSignal): Promise<LookupResult> {
    return new Promise((resolve) => {
      const id = this.#nextLookup;
      this.#nextLookup = id >= 0x7fffffff ? 1 : id + 1;
      this.#lookups.set(id, resolve);
      signal.addEventListener('abort', () => this.#lookups.delete(id), { once: true });
      if (!this.#channels.get(client.token)?.send({ type: 'lookup', id, qtype, name })) {
        this.#lookups.delete(id);
        resolve({ rcode: servfail, records: new Uint8Array(0) });
      }
    });
  }

  #status(): DaemonStatus {
    const active = this.#active;
    return {
      version: clientVersion,
      pid: process.pid,
      uptimeSeconds: (this.#deps.clock.nowMs() - this.#startedMs) / 1000,
      subnets: active?.desired.subnets ?? [],
      flows: active?.pipeline.flows ?? { tcp: 0, udp: 0 },
      drops: active?.pipeline.drops ?? {},
      rssBytes: process.memoryUsage().rss,
      clients: this.#clients.size,
      ...(active ? { device: active.device.name } : {}),
      ...(active
        ? {
            dns: {
              localAddress: active.dnsAddress,
              excludeSuffixes: active.desired.dns.excludeSuffixes,
              includeSuffixes: active.desired.dns.includeSuffixes,
              timeoutMs: active.desired.dns.timeoutMs,
            },
          }
        : {}),
    };
  }
}

/** Everything of ours on this machine is found by its name or mark and removed: needs no memory, works after a kill. */
export async function cleanUp(run: RunCommand, uid: number): Promise<void> {
  await removeStaleTables(run, uid);
  await removeMarkedRoutes(run);
  await closeFirewall(run, uid === 0 ? 'nf0' : `nf${uid}`.slice(0, 15));
}

export function readResolvConf(): string {
  try {
    return readFileSync('/etc/resolv.conf', 'utf8');
  } catch {
    return '';
  }
}

function resolversOf(text: string): IpBytes[] {
  return [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)]
    .map((match) => parseIp(match[1] ?? ''))
    .filter((each) => each !== undefined);
}

function answers(path: string, clock: Clock): Promise<boolean> {
  return withTimeout(
    clock,
    probeTimeoutMs,
    'the other daemon',
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(path, () => {
          socket.destroy();
          resolve(true);
        });
        socket.on('error', () => resolve(false));
      }),
  ).catch(() => false);
}

function listen(server: Server, path: string): Promise<void> {
  rmSync(path, { force: true });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => resolve());
  });
}
