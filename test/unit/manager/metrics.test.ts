import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { createClient, createRouterTransport } from '@connectrpc/connect';
import { silentLogger } from '../../../src/base/index.ts';
import { createStatusServer } from '../../../src/manager/metrics/serve.ts';
import { Registry } from '../../../src/manager/metrics/text.ts';
import { TunnelTally } from '../../../src/manager/metrics/tunnels.ts';
import { wire } from '../../../src/protocol/index.ts';
import { deployment, FakeCluster, podOf, webService } from './fake-cluster.ts';
import { fakeManager } from './fake-manager.ts';
import { agentInfo, clientInfo, interceptSpec } from './messages.ts';

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) {
    end();
  }
});

test('the text is what Prometheus reads', () => {
  const registry = new Registry();
  const plain = registry.counter('plain_total', 'Without labels.');
  const labelled = registry.counter('labelled_total', 'With \\ and\na line.', true);
  registry.gauge('gauge', 'Now.', () => 0.5);
  registry.collected('gauge', 'odd', 'Numbers that are none.', () => [
    { labels: { a: 'x' }, value: Number.NaN },
    { value: Number.POSITIVE_INFINITY },
  ]);
  plain.add(2);
  labelled.add(1, { method: 'A', note: 'a "quote", a \\ and\na line' });
  labelled.add(1, { method: 'B', note: '' });
  labelled.add(1, { method: 'B', note: '' });
  assert.equal(
    registry.text(),
    `# HELP plain_total Without labels.
# TYPE plain_total counter
plain_total 2
# HELP labelled_total With \\\\ and\\na line.
# TYPE labelled_total counter
labelled_total{method="A",note="a \\"quote\\", a \\\\ and\\na line"} 1
labelled_total{method="B",note=""} 2
# HELP gauge Now.
# TYPE gauge gauge
gauge 0.5
# HELP odd Numbers that are none.
# TYPE odd gauge
odd{a="x"} NaN
odd +Inf
`,
  );
});

test('what happens at the manager is counted under the names that dashboards know, and nobody is named', async () => {
  const { routes, metrics, store } = fakeManager(new FakeCluster(deployment(), webService(), podOf('web', '1')));
  const manager = createClient(wire.Manager, createRouterTransport(routes));
  const { sessionId } = await manager.arriveAsClient(clientInfo());
  await manager.arriveAsAgent(agentInfo());
  await manager.remain({ session: { sessionId: 'nobody' } }).catch(() => undefined);
  const client = store.client(sessionId);
  const { ACTIVE } = wire.InterceptDispositionType;
  for (const spec of [interceptSpec(), interceptSpec({ name: 'tap', wiretap: true })]) {
    store.intercepts.set(spec.name, { ...store.addIntercept(client, spec), disposition: ACTIVE });
  }
  await manager.reportMetrics(
    create(wire.TunnelMetricsSchema, { clientSessionId: sessionId, ingressBytes: 7n, egressBytes: 9n }),
  );
  const text = metrics.registry.text();
  const lines = new Set(text.split('\n'));
  for (const line of [
    'telepresence_client_count 1',
    'telepresence_agent_count 1',
    'telepresence_session_count 2',
    'telepresence_connect_count 1',
    'telepresence_active_intercept_count 2',
    'nearfield_active_attachments{mode="intercept"} 1',
    'nearfield_active_attachments{mode="wiretap"} 1',
    'nearfield_active_attachments{mode="replace"} 0',
    'telepresence_tunnel_ingress_bytes 7',
    'telepresence_tunnel_egress_bytes 9',
    'nearfield_calls_total{method="ArriveAsClient",code="ok"} 1',
    'nearfield_calls_total{method="Remain",code="not_found"} 1',
    'process_resident_memory_bytes 1',
  ]) {
    assert.ok(lines.has(line), `${line} in\n${text}`);
  }
  assert.doesNotMatch(text, /ann/);
});

test('bytes of a connection count while it is open, and after', () => {
  const tally = new TunnelTally();
  let close = (): void => undefined;
  const socket = {
    bytesRead: 5,
    bytesWritten: 3,
    once: (_: 'close', listener: () => void) => {
      close = listener;
    },
  };
  tally.socket(socket);
  assert.deepEqual([tally.open, tally.ingressBytes, tally.egressBytes], [1, 3, 5]);
  socket.bytesRead = 50;
  close();
  assert.deepEqual([tally.open, tally.ingressBytes, tally.egressBytes], [0, 3, 50]);
});

test('the status port answers probes before there is anything to measure, and takes nothing but GET', async () => {
  let isReady = false;
  const status = createStatusServer({ metrics: () => 'numbers\n', isReady: () => isReady, log: silentLogger });
  const port = await status.listen(0, '127.0.0.1');
  ends.push(() => status.close());
  const ask = async (path: string, method = 'GET'): Promise<string> => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, signal: AbortSignal.timeout(5_000) });
    return `${answer.status} ${(await answer.text()).trim()}`;
  };
  assert.equal(await ask('/healthz'), '200 ok');
  assert.equal(await ask('/readyz'), '503 not yet');
  isReady = true;
  assert.equal(await ask('/readyz'), '200 ok');
  assert.equal(await ask('/metrics'), '200 numbers');
  assert.equal(await ask('/metrics', 'POST'), '405 GET only');
  assert.equal(await ask('/other'), '404 not found');
});
