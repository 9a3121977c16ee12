import type { Socket } from 'node:net';
import type { Disposable, Event, IpBytes, Subnet } from '../../base/index.ts';
import type { TunDevice } from '../tun/device.ts';

/** What the device is to carry. */
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

/** Addresses and routes of the device. */
export interface NetworkBackend {
  /** Who made a route, as a person would say it; undefined where the system does not tell. */
  ownerOf?(route: ExistingRoute): Promise<string | undefined>;
  /** Every route of the machine, the device's own included. */
  routes(): Promise<ExistingRoute[]>;
  /** Converges on the plan; may be called again with another one. */
  apply(plan: LinkPlan): Promise<void>;
  clear(): Promise<void>;
  /** The machine's interfaces or routes changed, not by us: the plan may have to be applied again. */
  readonly onNetworkChanged: Event<void>;
}

/** How the machine's programs are led to our DNS server. */
export interface ResolverPlan {
  readonly device: string;
  /** Our DNS server: a loopback port, UDP and TCP. */
  readonly port: number;
  /** The resolvers that programs of this machine ask now. */
  readonly resolvers: readonly IpBytes[];
  /** Our own questions to the resolvers leave from these ports, and are let through. */
  readonly sourcePorts: readonly number[];
  /** Names below these are the cluster's. */
  readonly routedDomains: readonly string[];
  /** Appended to names of one label: the search device, then the connected namespace. */
  readonly searchDomains: readonly string[];
  /** The cluster's addresses: the names of these are the cluster's to tell. */
  readonly subnets: readonly Subnet[];
}

export interface ResolverBackend {
  readonly kind: 'systemd-resolved' | 'nft-redirect' | 'resolver-files' | 'nrpt' | 'fake';
  apply(plan: ResolverPlan): Promise<void>;
  clear(): Promise<void>;
  /** Where our own questions go, when not to the plan's resolvers. Asked after `apply`, and now and then. */
  upstreams?(): Promise<readonly IpBytes[] | undefined>;
}

/** Lets connections of the device through a firewall that drops by default. */
export interface FirewallBackend {
  open(device: string): Promise<void>;
  close(device: string): Promise<void>;
}

/** One operating system. Everything made through it is found again by name or mark: `cleanUp` needs no memory. */
export interface Platform {
  readonly deviceName: (uid: number) => string;
  openDevice(name: string): TunDevice;
  createNetwork(): NetworkBackend & Disposable;
  createResolver(uid: number): Promise<ResolverBackend>;
  readonly firewall: FirewallBackend;
  /** Where our DNS server has to listen, if the system asks at a certain place only: a loopback address and a port. */
  nameServer?(uid: number): { readonly address: string; readonly port: number };
  /** The user at the other end of a local socket; undefined when the system does not say. */
  peerOf(socket: Socket): number | undefined;
  /** Gives back memory that only starting needed. */
  trim(): void;
  /** The system ends this process after so long, unless called again before; 0 takes it back. False where it cannot. */
  expire?(ms: number): boolean;
  /** Tells the service manager that listens at a datagram socket, as sd_notify(3) does. */
  notify?(path: string, text: string): boolean;
  /** The resolvers that the machine uses, best first. */
  resolvers(): Promise<IpBytes[]>;
  /** Removes what a killed predecessor of this user left. */
  cleanUp(uid: number): Promise<void>;
}
