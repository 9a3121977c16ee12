import { join } from 'node:path';
import { silentLogger, systemClock } from '../../src/base/index.ts';
import type { Connector } from '../../src/connector/contract.ts';
import { lineChannel, openSocket } from '../../src/connector/rpc/lines.ts';
import { connectorOver } from '../../src/connector/rpc/rpc.ts';
import { repositoryRoot } from '../cluster/paths.ts';
import type { Workstation } from './workstation.ts';

const node = join(repositoryRoot, 'node_modules/node/bin/node');

export interface Headless {
  readonly daemon: string;
  /** `nearfield …` as the user; answers its output. */
  nearfield(...args: readonly string[]): Promise<string>;
  connect(...args: readonly string[]): Promise<string>;
  /** The background connector itself, without the start of a command in between. `end` hangs up. */
  open(): Promise<{ readonly connector: Connector; end(): void }>;
  /** The process id of the background connector, or of the daemon. */
  pidOf(what: 'connector' | 'daemon'): Promise<number>;
}

/** The packaged command line in a workstation. */
export async function installHeadless(workstation: Workstation, kubeconfig: string): Promise<Headless> {
  await workstation.give(kubeconfig, 'kubeconfig');
  const program = await workstation.give(join(repositoryRoot, 'dist/nearfield.cjs'), 'nearfield.cjs');
  const daemon = await workstation.give(join(repositoryRoot, 'dist/nearfield-daemon'), 'nearfield-daemon');
  const local = await workstation.give(node, 'node');
  await workstation.allowSudo(daemon);
  const nearfield = (...args: readonly string[]): Promise<string> =>
    workstation.run([local, program, ...args], { timeoutMs: 90_000 });
  const command = ['sudo', '-n', daemon, 'run', '--uid', String(workstation.uid), '--gid', String(workstation.gid)];
  return {
    daemon,
    nearfield,
    connect: (...args) =>
      nearfield('connect', '--namespace', 'service-a-ns', '--daemon-command', JSON.stringify(command), ...args),
    async open() {
      const socket = await openSocket(join(workstation.home, 'nearfield/connector.sock'), systemClock);
      const connector = connectorOver(lineChannel(socket), silentLogger, async () => void socket.destroy());
      return { connector, end: () => void socket.destroy() };
    },
    async pidOf(what) {
      const pattern = what === 'daemon' ? '^[^ ]*nearfield-daemon run' : 'nearfield.cjs serve';
      const pids = await workstation.run(['pgrep', '-f', '--ns', String(process.pid), '--nslist', 'pid', pattern], {
        asRoot: true,
      });
      const inside = (await workstation.run(['ip', 'netns', 'pids', workstation.namespace], { asRoot: true })).split(
        '\n',
      );
      return Number(pids.split('\n').find((pid) => inside.includes(pid)));
    },
  };
}
