import { formatSubnet } from '../../../src/base/index.ts';
import type { RunCommand } from '../../../src/daemon/os/command.ts';
import { type FakeMachine, toSubnet } from './machine.ts';

/** `netsh` and the questions to PowerShell, as far as ours go. */
export function runWindows(machine: FakeMachine): RunCommand {
  return async (file, args) => {
    if (file === 'powershell') {
      return powershell(machine, args.at(-1) ?? '');
    }
    const text = [file, ...args].join(' ');
    machine.changes.push(text);
    const [context, family, verb, object, ...rest] = args;
    const values = new Map(
      rest.filter((each) => each.includes('=')).map((each) => each.split('=') as [string, string]),
    );
    if (file !== 'netsh' || context !== 'interface' || values.get('store') !== 'active') {
      throw new Error(`${text}: would outlive the adapter, or is unknown`);
    }
    const value = (name: string): string => values.get(name) ?? '';
    if (verb === 'set') {
      const link = machine.link(rest[0] ?? '');
      link.isUp = true;
      link.mtu = Number(values.get('mtu') ?? link.mtu);
    } else if (object === 'address') {
      const device = value(family === 'ipv4' ? 'name' : 'interface');
      changeAddress(machine, { device, verb: verb ?? '', address: value('address').replace(/\/128$/, '') });
    } else if (verb === 'add') {
      const subnet = formatSubnet(toSubnet(value('prefix')));
      if (machine.routes.some((each) => each.subnet === subnet && each.device === value('interface'))) {
        throw new Error('The object already exists.');
      }
      machine.addRoute({ subnet, device: value('interface'), note: `metric ${value('metric')}` });
    } else {
      machine.removeRoute(value('prefix'), value('interface'));
    }
    return 'Ok.\n';
  };
}

/** The system makes a route to each address by itself. */
function changeAddress(machine: FakeMachine, change: { device: string; verb: string; address: string }): void {
  const { device, verb, address } = change;
  const { addresses } = machine.link(device);
  if (verb === 'add') {
    if (addresses.includes(address)) {
      throw new Error('The object already exists.');
    }
    addresses.push(address);
    machine.addRoute({ subnet: formatSubnet(toSubnet(address)), device, note: 'own' });
  } else {
    addresses.splice(addresses.indexOf(address), 1);
    machine.removeRoute(formatSubnet(toSubnet(address)), device);
  }
}

function powershell(machine: FakeMachine, script: string): string {
  const name = /'(nearfield [^']*)'/.exec(script)?.[1] ?? '';
  if (script.includes('Get-NetRoute')) {
    return JSON.stringify(
      machine.routes.map(({ subnet, device, gateway }) => ({
        DestinationPrefix: subnet,
        NextHop: gateway ?? (subnet.includes(':') ? '::' : '0.0.0.0'),
        InterfaceAlias: device,
      })),
    );
  }
  if (script.includes('Remove-NetFirewallRule')) {
    machine.rules.delete(name);
    return '[]';
  }
  if (script.includes('New-NetFirewallRule')) {
    machine.rules.set(name, /-Direction .*-InterfaceAlias '[^']*'/.exec(script)?.[0] ?? '');
    return '[{}]';
  }
  if (script.includes('Get-DnsClientNrptRule')) {
    return '';
  }
  throw new Error(`${script}: not known`);
}
