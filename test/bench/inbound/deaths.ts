import { readAttach } from '../../../src/connector/cli/attach.ts';
import type { Cluster } from '../../cluster/cluster.ts';
import { waitFor } from '../../cluster/shell.ts';
import type { Headless } from '../../support/headless.ts';
import { firstAnswer, type ProbeReport, probeFromPod } from '../../support/probe.ts';
import type { LifeRow } from './life.ts';

interface DeathDeps {
  readonly cluster: Pick<Cluster, 'kubectl'>;
  readonly headless: Headless;
  /** The service of `carried`. */
  readonly address: string;
}

interface Seen {
  readonly since: number;
  readonly report: ProbeReport;
}

const port = 8080;
/** As the peer was measured. */
const periodMs = 50;
const seconds = 25;
const leadMs = 500;
const limitMs = 60_000;

/** What callers notice when something dies beneath an intercept. Afterwards no connector runs. */
export async function measureDeaths({ cluster, headless, address }: DeathDeps): Promise<LifeRow[]> {
  const kubectl = (...args: readonly string[]): Promise<string> => cluster.kubectl('-n', 'bench', ...args);
  const { connector, end } = await headless.open();
  await connector.attach(readAttach('intercept', 'deployment/carried', { namespace: 'bench', port: [`${port}:http`] }));
  const readyPods = async (): Promise<string[]> => {
    const path = '{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}';
    const pods = (await kubectl('get', 'pods', '-l', 'app=carried', '-o', `jsonpath=${path}`)).split(' ');
    return pods.filter((each) => each.endsWith('=True')).map((each) => each.replace('=True', ''));
  };
  const during = async (change: () => Promise<unknown>): Promise<Seen> => {
    const probing = probeFromPod(cluster, { namespace: 'bench', address, port, periodMs, seconds });
    await new Promise((resolve) => setTimeout(resolve, leadMs));
    const since = Date.now();
    await change();
    return { since, report: await probing };
  };
  const row = (name: string, goal: string, { report }: Seen, ms: number | undefined): LifeRow => ({
    name,
    ms,
    lost: `${report.failed} of ${report.sent}`,
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
  const only = await during(async () => {
    successorMs = await deleteOne(1);
  });
  const manager = await during(() =>
    cluster.kubectl('-n', 'ambassador', 'delete', 'pod', '-l', 'app=traffic-manager', '--grace-period=0', '--force'),
  );
  await kubectl('scale', 'deploy/carried', '--replicas=2');
  await waitFor('two pods', limitMs, async () => ((await readyPods()).length === 2 ? true : undefined));
  const oneOfTwo = await during(() => deleteOne(2));
  await kubectl('scale', 'deploy/carried', '--replicas=1');
  const killed = await during(async () => process.kill(await headless.pidOf('connector'), 'SIGKILL'));
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
