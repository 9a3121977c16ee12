import { formatSubnet } from '../../../src/base/index.ts';
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
    machine.changes.push(['ip', ...args].join(' '));
    if (object === 'link') {
      Object.assign(machine.link(device), { mtu: Number(after('mtu')), isUp: true });
    } else if (object === 'address') {
      const { addresses } = machine.link(device);
      const others = addresses.filter((each) => each !== first);
      addresses.splice(0, addresses.length, ...others, ...(verb === 'delete' ? [] : [first]));
    } else if (verb === 'delete') {
      machine.removeRoute(first, device);
    } else {
      const note = after('congctl') && `congctl ${after('congctl')}`;
      // A table holds one route of a subnet and metric.
      if (machine.routes.some(({ subnet }) => subnet === formatSubnet(toSubnet(first)))) {
        throw new Error('RTNETLINK answers: File exists');
      }
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
