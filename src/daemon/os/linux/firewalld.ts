import type { RunCommand } from '../command.ts';
import type { FirewallKind } from './firewall-rules.ts';
import { busCall, isOnBus } from './system-bus.ts';

const program = '/usr/sbin/firewalld';
const bus = { service: 'org.fedoraproject.FirewallD1', path: '/org/fedoraproject/FirewallD1' };
const zones = 'org.fedoraproject.FirewallD1.zone';
/** Lets everything in; comes with firewalld. */
const zone = 'trusted';

/**
 * firewalld makes its own table, which newer versions own so that nobody else can write there. The device goes into
 * the zone that trusts, at run time only: nothing is written to its configuration. The name of the device is the mark.
 */
export function createFirewalld(run: RunCommand, read: (path: string) => string | undefined): FirewallKind {
  // Where it is not installed the bus is not asked, which costs a process each time.
  const isRunning = async (): Promise<boolean> => read(program) !== undefined && (await isOnBus(run, bus.service));
  const zoneOf = async (device: string): Promise<string> => {
    const method = { interface: zones, name: 'getZoneOfInterface', signature: 's' };
    return /^s "(.*)"$/.exec((await busCall(run, bus, method, [device])).trim())?.[1] ?? '';
  };
  return {
    name: 'firewalld',
    async open(device) {
      if ((await isRunning()) && (await zoneOf(device)) !== zone) {
        await busCall(run, bus, { interface: zones, name: 'changeZoneOfInterface', signature: 'ss' }, [zone, device]);
      }
    },
    async close(device) {
      if ((await isRunning()) && (await zoneOf(device)) === zone) {
        await busCall(run, bus, { interface: zones, name: 'removeInterface', signature: 'ss' }, [zone, device]);
      }
    },
  };
}
