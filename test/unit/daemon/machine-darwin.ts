import { formatIp, formatSubnet } from '../../../src/base/index.ts';
import type { RunCommand } from '../../../src/daemon/os/command.ts';
import { type FakeMachine, type FakeRoute, isVersion4, toSubnet } from './machine.ts';

/** What the device takes at most; larger is refused, as the system does. */
const largestMtuBytes = 16_384;

/** `ifconfig`, `route` and `netstat` of macOS, as far as our commands go. */
export function runDarwin(machine: FakeMachine): RunCommand {
  return async (file, args) => {
    const text = [file, ...args].join(' ');
    if (file === 'netstat') {
      return netstat(machine, args.at(-1) === 'inet');
    }
    if (file === 'ifconfig' && args.length === 1) {
      return `${args[0]}: flags=8051\n${machine
        .link(args[0] ?? '')
        .addresses.map((each) => `\t${each}`)
        .join('\n')}\n`;
    }
    machine.changes.push(text);
    if (file === 'ifconfig') {
      ifconfig(machine, args);
      return '';
    }
    if (file === 'route') {
      return route(machine, args);
    }
    throw new Error(`${text}: command not found`);
  };
}

function ifconfig(machine: FakeMachine, [device = '', ...args]: readonly string[]): void {
  const link = machine.link(device);
  const [word = '', value = ''] = args;
  if (word === 'mtu') {
    if (Number(value) > largestMtuBytes) {
      throw new Error('ioctl (set mtu): Invalid argument');
    }
    link.mtu = Number(value);
    link.isUp = args.includes('up');
    return;
  }
  if (args.at(-1) === '-alias') {
    const index = link.addresses.findIndex((each) => each.split(' ')[1] === value);
    const [gone = ''] = index < 0 ? [] : link.addresses.splice(index, 1);
    const peer = /--> (\S+)/.exec(gone)?.[1];
    machine.routes = machine.routes.filter((each) => each.subnet !== `${peer}/32` || each.device !== device);
    return;
  }
  if (word === 'inet') {
    const [, , peer = '', , mask = ''] = args;
    link.addresses.push(`inet ${value} --> ${peer} netmask ${hex(mask)}`);
    machine.addRoute({ subnet: `${peer}/32`, device, gateway: value, note: 'UH' });
  } else {
    link.addresses.push(`inet6 ${value} prefixlen ${args[3]}`);
  }
}

const hex = (mask: string): string =>
  `0x${mask
    .split('.')
    .map((octet) => Number(octet).toString(16).padStart(2, '0'))
    .join('')}`;

/** A table holds one route of a subnet, whichever device it leads to; and `route` ends well all the same. */
function route(machine: FakeMachine, args: readonly string[]): string {
  const [, , verb = '', , subnet = '', , device = ''] = args;
  const wanted = formatSubnet(toSubnet(subnet));
  const present = machine.routes.find((each) => each.subnet === wanted);
  if (verb === 'add' ? present : !present) {
    return `${verb} net ${subnet}: ${verb === 'add' ? 'File exists' : 'not in table'}\n`;
  }
  if (verb === 'add') {
    machine.addRoute({ subnet, device, note: 'USc' });
  } else {
    machine.removeRoute(subnet, present?.device ?? device);
  }
  return `${verb} net ${subnet}\n`;
}

function netstat(machine: FakeMachine, isInet: boolean): string {
  const rows = machine.routes
    .filter(({ subnet }) => isVersion4(subnet) === isInet)
    .map((each) => [abbreviate(each), each.gateway ?? 'link#4', each.note ?? 'UGSc', each.device].join('  '));
  return ['Routing tables', '', 'Internet:', 'Destination  Gateway  Flags  Netif Expire', ...rows, ''].join('\n');
}

function abbreviate({ subnet }: FakeRoute): string {
  const { address, prefixLength } = toSubnet(subnet);
  if (prefixLength === 0) {
    return 'default';
  }
  if (address.length === 16 || prefixLength === 32) {
    return prefixLength === address.length * 8 ? formatIp(address) : formatSubnet({ address, prefixLength });
  }
  const octets = Math.max(1, Math.ceil(prefixLength / 8));
  const short = [...address.subarray(0, octets)].join('.');
  const isNatural = prefixLength === ((address[0] ?? 0) < 128 ? 8 : (address[0] ?? 0) < 192 ? 16 : 24);
  return isNatural ? short : `${short}/${prefixLength}`;
}
