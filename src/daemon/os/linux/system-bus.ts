import type { RunCommand } from '../command.ts';

/** A service of the system bus. */
export interface BusName {
  readonly service: string;
  readonly path: string;
}

/** It is on this machine, and idle: one that takes longer does not answer. */
const timeoutSeconds = 2;

/**
 * Calls by `busctl`, which comes with systemd: a D-Bus library would be more code in a root process than all that we
 * say on the bus, a handful of calls per connection to a cluster. No service is started by a call.
 */
export function busCall(
  run: RunCommand,
  { service, path }: BusName,
  method: { readonly interface: string; readonly name: string; readonly signature?: string },
  args: readonly string[] = [],
): Promise<string> {
  const { signature } = method;
  return run('busctl', [
    ...['--system', '--auto-start=no', `--timeout=${timeoutSeconds}`, 'call'],
    ...[service, path, method.interface, method.name],
    // What begins with a dash is an argument of the call, not of busctl.
    ...(signature === undefined ? [] : ['--', signature, ...args]),
  ]);
}

/** False also where there is no system bus, or no busctl. */
export async function isOnBus(run: RunCommand, service: string): Promise<boolean> {
  const answer = await busCall(
    run,
    { service: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus' },
    { interface: 'org.freedesktop.DBus', name: 'NameHasOwner', signature: 's' },
    [service],
  ).catch(() => '');
  return answer.trim() === 'b true';
}
