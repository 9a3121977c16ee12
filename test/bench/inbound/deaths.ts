import { readAttach } from '../../../src/connector/cli/attach.ts';
import { waitFor } from '../../cluster/shell.ts';
import { firstAnswer } from '../../support/probe.ts';
import { during, port, type Seen } from './during.ts';
import type { LifeDeps, LifeRow } from './life.ts';

/** As the peer was measured. */
const periodMs = 50;
const seconds = 25;
const limitMs = 60_000;

/** What callers notice when something dies beneath an intercept. Afterwards no connector runs. */
export async function measureDeaths({ cluster, headless, address }: LifeDeps): Promise<LifeRow[]> {
  const kubectl = (...args: readonly string[]): Promise<string> => cluster.kubectl('-n', 'bench', ...args);
  const { connector, end } = await headless.open();
  await connector.attach(readAttach('intercept', 'deployment/carried', { namespace: 'bench', port: [`${port}:http`] }));
  const readyPods = async (): Promise<string[]> => {
    const path = '{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}';
    const pods = (await kubectl('get', 'pods', '-l', 'app=carried', '-o', `jsonpath=${path}`)).split(' ');
    return pods.filter((each) => each.endsWith('=True')).map((each) => each.replace('=True', ''));
  };
  const see = (change: () => Promise<unknown>): Promise<Seen> =>
    during(cluster, { address, periodMs, seconds }, change);
  const row = (name: string, goal: string, seen: Seen, ms: number | undefined): LifeRow => ({
    name,
    ms,
    failed: seen.report.failed,
    sent: seen.report.sent,
    goal,
  });
  /** An ordinary deletion; resolves when there are as many that are ready as before. */
  const deleteOne = async (replicas: number): Promise<number> => {
    const since = Date.now();
    const [victim = ''] = await readyPods();
    await kubectl('delete', 'pod', victim, '--wait=false');
    await waitFor('the successor', limitMs, async () => {
      const ready = await readyPods();
      return ready.length >= replicas && !ready.includes(victim) ? true : undefined;
    });
    return Date.now() - since;
  };

  let successorMs = 0;
  const only = await see(async () => {
    successorMs = await deleteOne(1);
  });
  const manager = await see(() =>
    cluster.kubectl('-n', 'ambassador', 'delete', 'pod', '-l', 'app=traffic-manager', '--grace-period=0', '--force'),
  );
  await kubectl('scale', 'deploy/carried', '--replicas=2');
  await waitFor('two pods', limitMs, async () => ((await readyPods()).length === 2 ? true : undefined));
  const oneOfTwo = await see(() => deleteOne(2));
  await kubectl('scale', 'deploy/carried', '--replicas=1');
  const killed = await see(async () => process.kill(await headless.pidOf('connector'), 'SIGKILL'));
  end();
  return [
    row(
      'the only intercepted pod is deleted → the last request that is lost',
      `its successor is ready: ${successorMs} ms`,
      only,
      lastFailure(only),
    ),
    row(`one of two intercepted pods is deleted (${answersOf(oneOfTwo)} answered)`, '0 lost', oneOfTwo, undefined),
    row(`the traffic-manager is killed (${answersOf(manager)} answered)`, '≤ 1 lost', manager, undefined),
    row(
      'the connector is killed → the pod answers',
      '≤ 15,000 ms',
      killed,
      firstAnswer(killed.report, 'pod', killed.since),
    ),
  ];
}

const answersOf = ({ report }: Seen): string =>
  [...new Set(report.events.filter(({ kind }) => kind === 'answer').map(({ what }) => what))].join(' and ');

/** Milliseconds after the change; 0 when nothing was lost. */
function lastFailure({ since, report }: Seen): number {
  const failures = report.events.filter(({ kind, at }) => kind === 'failure' && at >= since);
  return Math.max(0, ...failures.map(({ at }) => at - since));
}
