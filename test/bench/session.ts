import type { Headless } from '../support/headless.ts';
import type { Workstation } from '../support/workstation.ts';

export interface SessionRow {
  readonly name: string;
  readonly ms: number;
  readonly goal: string;
}

const now = (): number => performance.now();

async function took(work: () => Promise<unknown>): Promise<number> {
  const since = now();
  await work();
  return now() - since;
}

/** Coming and going, as somebody at a terminal has it: the starts of the processes are part of it. */
export async function measureSession(workstation: Workstation, headless: Headless): Promise<SessionRow[]> {
  const reach = (): Promise<string> =>
    workstation.run(['bash', '-c', 'exec 3<>/dev/tcp/service-a.service-a-ns/8080'], { timeoutMs: 30_000 });
  const connect = async (): Promise<void> => {
    await headless.connect();
    await reach();
  };
  await headless.nearfield('quit');
  const nothing = await took(connect);
  const list = await took(() => headless.nearfield('list'));
  const version = await took(() => headless.nearfield('version'));
  const quit = await took(() => headless.nearfield('quit'));
  const daemon = workstation.start(
    ['sudo', '-n', headless.daemon, 'run', '--uid', String(workstation.uid), '--gid', String(workstation.gid)],
    `${workstation.home}/daemon.log`,
  );
  const running = await took(connect);
  daemon.unref();
  return [
    { name: 'connect, nothing running → a name and a connection work', ms: nothing, goal: '≤ 1,500 ms' },
    { name: 'connect, daemon running', ms: running, goal: '≤ 800 ms' },
    { name: 'quit', ms: quit, goal: '≤ 500 ms' },
    { name: 'list workloads, beyond the start of the command', ms: Math.max(0, list - version), goal: '0' },
  ];
}
