import { formatSubnet, parseIp, parseSubnet, type Subnet } from '../../../src/base/index.ts';

export interface FakeRoute {
  readonly subnet: string;
  readonly device: string;
  readonly gateway?: string | undefined;
  /** What the system itself, or a mark, says of it. */
  readonly note?: string | undefined;
}

export interface FakeLink {
  mtu: number;
  isUp: boolean;
  /** Text of each address, as the system prints it. */
  readonly addresses: string[];
}

/** A machine's links and routes, whatever system it runs. It prints itself: a test compares what it looks like. */
export class FakeMachine {
  readonly links = new Map<string, FakeLink>();
  routes: FakeRoute[] = [];
  /** Firewall rules by name. */
  readonly rules = new Map<string, string>();
  /** Commands that changed something. */
  readonly changes: string[] = [];

  constructor(device: string) {
    this.addLink('eth0', ['192.168.1.23/24']);
    this.addLink('tun9', ['10.8.0.2/32']);
    this.routes.push({ subnet: '0.0.0.0/0', device: 'eth0', gateway: '192.168.1.1' });
    this.routes.push({ subnet: '192.168.1.0/24', device: 'eth0' });
    this.routes.push({ subnet: '172.30.0.0/16', device: 'tun9', gateway: '10.8.0.1' });
    this.addLink(device, []);
  }

  addLink(name: string, addresses: readonly string[]): void {
    this.links.set(name, { mtu: 1500, isUp: addresses.length > 0, addresses: [...addresses] });
  }

  /** What closing a device does: everything on it goes with it. */
  removeLink(name: string): void {
    this.links.delete(name);
    this.routes = this.routes.filter(({ device }) => device !== name);
  }

  link(name: string): FakeLink {
    const link = this.links.get(name);
    if (!link) {
      throw new Error(`${name}: no such device`);
    }
    return link;
  }

  /** Replaces a route for the same subnet on the same device; systems differ in what they do about another device's. */
  addRoute(route: FakeRoute): void {
    this.link(route.device);
    this.routes = this.routes.filter(({ subnet, device }) => subnet !== route.subnet || device !== route.device);
    this.routes.push({ ...route, subnet: normalise(route.subnet) });
  }

  removeRoute(subnet: string, device: string): void {
    const before = this.routes.length;
    this.routes = this.routes.filter((route) => route.subnet !== normalise(subnet) || route.device !== device);
    if (this.routes.length === before) {
      throw new Error(`${subnet}: not in table`);
    }
  }

  print(): string {
    const links = [...this.links].map(([name, { mtu, isUp, addresses }]) =>
      [`${name} ${isUp ? 'up' : 'down'} mtu ${mtu}`, ...addresses.map((address) => `  ${address}`)].join('\n'),
    );
    const routes = this.routes.map(({ subnet, device, gateway, note }) =>
      [subnet, ...(gateway ? [`via ${gateway}`] : []), device, ...(note ? [note] : [])].join(' '),
    );
    const rules = [...this.rules].map(([name, rule]) => `${name}: ${rule}`);
    return [...links, 'routes', ...routes.sort().map((route) => `  ${route}`), ...rules].join('\n');
  }
}

function normalise(subnet: string): string {
  return formatSubnet(toSubnet(subnet));
}

/** A bare address is a subnet of one. */
export function toSubnet(text: string): Subnet {
  const ip = parseIp(text);
  const subnet = ip ? { address: ip, prefixLength: ip.length * 8 } : parseSubnet(text);
  if (!subnet) {
    throw new Error(`${text}: not a subnet`);
  }
  return subnet;
}

export function isVersion4(subnet: string): boolean {
  return !subnet.includes(':');
}
