import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { createClient, createRouterTransport, type ServiceImpl } from '@connectrpc/connect';
import { watchAgentPods } from '../../../src/connector/session/agent-pods.ts';
import { wire } from '../../../src/protocol/index.ts';
import { waitFor } from '../../cluster/shell.ts';
import { ScriptedManager } from '../../support/scripted-manager.ts';

// Which agents the connector knows, by whatever its manager can tell; and to which it connects.

const pod = (podName: string, more = {}): wire.AgentPodInfo =>
  create(wire.AgentPodInfoSchema, { podName, namespace: 'shop', podId: `uid-${podName}`, apiPort: 9000, ...more });
const delta = (upserts: Record<string, wire.AgentPodInfo>, removals: string[] = []): wire.AgentPodInfoDelta =>
  create(wire.AgentPodInfoDeltaSchema, { upserts, removals });

type Watches = Pick<
  Partial<ServiceImpl<typeof wire.Manager>>,
  'watchAgentPods' | 'watchAgentPodsDelta' | 'watchAgentPodsInNamespacesDelta'
>;
async function namesOf(watches: Watches): Promise<string[][]> {
  const transport = createRouterTransport((router) => router.service(wire.Manager, watches));
  const seen: string[][] = [];
  const limit = AbortSignal.timeout(10_000);
  for await (const pods of watchAgentPods(createClient(wire.Manager, transport), 's', ['far', 'shop'], limit)) {
    seen.push(pods.map(({ podName }) => podName));
  }
  return seen;
}

async function* snapshots() {
  yield create(wire.AgentPodInfoSnapshotSchema, { agents: [pod('a')] });
  yield create(wire.AgentPodInfoSnapshotSchema, { agents: [pod('a'), pod('b')] });
}
async function* deltas() {
  yield delta({ a: pod('a') });
  yield delta({ b: pod('b') });
  yield delta({ a: pod('a', { intercepted: true }) }, ['b']);
}

test('a manager up to 2.25 tells of its agents in snapshots', async () => {
  assert.deepEqual(await namesOf({ watchAgentPods: snapshots }), [['a'], ['a', 'b']]);
});

test('a manager since 2.26 tells of each change, and the agents are kept together here', async () => {
  const watches = { watchAgentPodsDelta: deltas, watchAgentPods: snapshots };
  assert.deepEqual(await namesOf(watches), [['a'], ['a', 'b'], ['a']]);
});

test('a manager since 2.28 is asked for the namespaces that are meant', async () => {
  const asked: string[][] = [];
  const names = await namesOf({
    async *watchAgentPodsInNamespacesDelta({ namespaces }) {
      asked.push(namespaces);
      yield delta({ far: pod('far', { namespace: 'far' }) });
    },
    watchAgentPodsDelta: deltas,
  });
  assert.deepEqual(asked, [['far', 'shop']]);
  assert.deepEqual(names, [['far']]);
});

let manager: ScriptedManager;
before(async () => {
  manager = await ScriptedManager.open();
});
after(() => manager.close());

test('every pod of an intercepted workload is connected to, whichever the manager marks', async () => {
  const name = (each: string): boolean => each.startsWith('web') || each.startsWith('api');
  manager.pods = [
    pod('web-1', { workloadName: 'web', intercepted: true }),
    pod('web-2', { workloadName: 'web' }),
    pod('api-1', { workloadName: 'api' }),
  ];
  const spec = create(wire.InterceptSpecSchema, { name: 'web', agent: 'web', namespace: 'shop' });
  manager.intercepts.set('web', create(wire.InterceptInfoSchema, { id: 'session:web', spec }));
  const session = await manager.connect();
  try {
    await waitFor('a connection to both pods', 10_000, async () =>
      new Set(manager.forwarded.filter(name)).size === 2 ? true : undefined,
    );
    assert.deepEqual([...new Set(manager.forwarded.filter(name))].sort(), ['web-1', 'web-2']);
  } finally {
    await session.close();
  }
});
