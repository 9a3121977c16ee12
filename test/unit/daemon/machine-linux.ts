import { formatSubnet, subnetContains } from '../../../src/base/index.ts';
import type { RunCommand } from '../../../src/daemon/os/command.ts';
import { type FakeMachine, isVersion4, toSubnet } from './machine.ts';

/** `ip` of Linux, as far as our commands go. */
export function runLinux(machine: FakeMachine): RunCommand {
  return async (file, args) => {
    if (file !== 'ip') {
      throw new Error(`${file}: command not found`);
    }
    const words = args.filter((each) => !each.startsWith('-'));
    const [object, verb, first = ''] = words;
    const after = (name: string): string | undefined => {
      const index = words.indexOf(name);
      return index < 0 ? undefined : words[index + 1];
    };
    const device = after('dev') ?? '';
    if (object === 'route' && verb === 'show') {
      return show(machine, args.includes('-4'));
    }
    if (object === 'route' && verb === 'get') {
      return get(machine, first);
    }
    machine.changes.push(['ip', ...args].join(' '));
    if (object === 'link') {
      Object.assign(machine.link(device), { mtu: Number(after('mtu')), isUp: true });
    } else if (object === 'address') {
      const { addresses } = machine.link(device);
      if (!addresses.includes(first)) {
        addresses.push(first);
      }
    } else if (verb === 'flush') {
      machine.routes = machine.routes.filter(
        ({ subnet, note }) => isVersion4(subnet) === args.includes('-6') || note !== `proto ${after('proto')}`,
      );
    } else if (verb === 'delete') {
      machine.removeRoute(first, device);
    } else {
      const note = after('proto') ? `proto ${after('proto')}` : after('congctl') && `congctl ${after('congctl')}`;
      // A table holds one route of a subnet and metric: replacing does not ask whose it was.
      machine.routes = machine.routes.filter(({ subnet }) => subnet !== formatSubnet(toSubnet(first)));
      machine.addRoute({ subnet: first, device, gateway: after('via'), note });
    }
    return '';
  };
}

function show(machine: FakeMachine, isInet: boolean): string {
  const routes = machine.routes.filter(({ subnet }) => isVersion4(subnet) === isInet);
  return JSON.stringify(
    routes.map(({ subnet, device, gateway }) => ({
      dst: subnet.endsWith('/0') ? 'default' : subnet.replace(/\/(32|128)$/, ''),
      dev: device,
      ...(gateway ? { gateway } : {}),
    })),
  );
}

function get(machine: FakeMachine, ip: string): string {
  const { address } = toSubnet(ip);
  const [best] = machine.routes
    .filter(({ subnet }) => subnetContains(toSubnet(subnet), address))
    .sort((a, b) => toSubnet(b.subnet).prefixLength - toSubnet(a.subnet).prefixLength);
  return JSON.stringify(best ? [{ dst: formatSubnet(toSubnet(ip)), dev: best.device, gateway: best.gateway }] : []);
}
