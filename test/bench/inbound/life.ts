import { readAttach } from '../../../src/connector/cli/attach.ts';
import type { Cluster } from '../../cluster/cluster.ts';
import type { Headless } from '../../support/headless.ts';
import { firstAnswer } from '../../support/probe.ts';
import { during, port, type Seen } from './during.ts';

export interface LifeRow {
  readonly name: string;
  readonly ms: number | undefined;
  /** Requests that got no answer, of all that were sent. */
  readonly failed: number;
  readonly sent: number;
  readonly goal: string;
}

export interface LifeDeps {
  readonly cluster: Pick<Cluster, 'kubectl'>;
  readonly headless: Headless;
  /** The service of `carried`. */
  readonly address: string;
}

const periodMs = 20;

/** How long it takes from the request to the connector to the first request that goes elsewhere, and what is lost meanwhile. */
export async function measureLife({ cluster, headless, address }: LifeDeps): Promise<LifeRow[]> {
  const { connector, end } = await headless.open();
  const intercept = (workload: string) => () =>
    connector.attach(readAttach('intercept', `deployment/${workload}`, { namespace: 'bench', port: [`${port}:http`] }));
  const leave = (workload: string) => () => connector.leave(`${workload}-bench`);
  const plain = await cluster.kubectl('-n', 'bench', 'get', 'service', 'plain', '-o', 'jsonpath={.spec.clusterIP}');
  const see = (target: string, seconds: number, change: () => Promise<unknown>): Promise<Seen> =>
    during(cluster, { address: target, periodMs, seconds }, change);
  const row = (name: string, goal: string, who: string, seen: Seen): LifeRow => ({
    name,
    ms: firstAnswer(seen.report, who, seen.since),
    failed: seen.report.failed,
    sent: seen.report.sent,
    goal,
  });
  const measured = [
    row(
      'first request at the laptop, no agent yet',
      '≤ 2,500 ms, 0 lost',
      'laptop',
      await see(plain, 12, intercept('plain')),
    ),
    row('leave → the pod answers', '≤ 100 ms', 'pod', await see(plain, 4, leave('plain'))),
    row(
      'first request at the laptop, agent present',
      '≤ 100 ms',
      'laptop',
      await see(address, 4, intercept('carried')),
    ),
    row('leave → the pod answers, again', '≤ 100 ms', 'pod', await see(address, 4, leave('carried'))),
  ];
  end();
  return measured;
}
