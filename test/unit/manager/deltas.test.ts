import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { type Client, Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { wire } from '../../../src/protocol/index.ts';
import { deployment, FakeCluster, podOf, webService } from './fake-cluster.ts';
import { fakeManager } from './fake-manager.ts';
import { agentInfo, clientInfo, interceptSpec } from './messages.ts';

// The watches of peers since 2.26: everything at first, then each change alone.

let parts: ReturnType<typeof fakeManager>;
let manager: Client<typeof wire.Manager>;

beforeEach(() => {
  parts = fakeManager(new FakeCluster(deployment(), webService(), podOf('web', '1')));
  manager = createClient(wire.Manager, createRouterTransport(parts.routes));
});

const arrive = async (more = {}): Promise<{ sessionId: string }> => {
  const { sessionId } = await manager.arriveAsClient(clientInfo(more));
  return { sessionId };
};
const arriveAgent = (pod: string, more = {}): Promise<wire.SessionInfo> =>
  manager.arriveAsAgent(agentInfo({ podUid: `uid-${pod}`, podName: pod, apiPort: 9000, ...more }));

interface Said {
  readonly upserts: Readonly<Record<string, unknown>>;
  readonly removals: readonly string[];
}
const keys = (delta: Said | undefined): [string[], readonly string[]] => [
  Object.keys(delta?.upserts ?? {}).sort(),
  delta?.removals ?? [],
];
/** The keys of each delta in turn. */
function reader<T extends Said>(stream: AsyncIterable<T>): () => Promise<[string[], readonly string[]]> {
  const iterator = stream[Symbol.asyncIterator]();
  return async () => keys((await iterator.next()).value as T | undefined);
}

test('a client hears of each agent once, however many there are', async () => {
  const session = await arrive();
  await arriveAgent('a');
  const next = reader(manager.watchAgentsDelta(session));
  assert.deepEqual(await next(), [['agent:uid-a'], []]);
  await arriveAgent('b');
  assert.deepEqual(await next(), [['agent:uid-b'], []]);
  await arriveAgent('elsewhere', { namespace: 'other' });
  await manager.depart({ sessionId: 'agent:uid-a' });
  assert.deepEqual(await next(), [[], ['agent:uid-a']]);
});

test('a watch of nothing says so at once: whoever waits for the first message is not kept waiting', async () => {
  const session = await arrive();
  for (const stream of [manager.watchAgentsDelta(session), manager.watchInterceptsDelta(session)]) {
    assert.deepEqual(await reader<Said>(stream)(), [[], []]);
  }
});

test('of intercepts only the one that changes is told again, and an agent hears of its own workload’s', async () => {
  const session = await arrive();
  const agent = await arriveAgent('a');
  const client = parts.store.client(session.sessionId);
  parts.store.addIntercept(client, interceptSpec());
  parts.store.addIntercept(client, interceptSpec({ name: 'api', agent: 'api' }));
  const id = `${session.sessionId}:web`;
  const ours = reader(manager.watchInterceptsDelta(session));
  const agents = reader(manager.watchInterceptsDelta({ sessionId: agent.sessionId }));
  assert.deepEqual(await ours(), [[`${session.sessionId}:api`, id], []]);
  assert.deepEqual(await agents(), [[id], []]);
  const { ACTIVE } = wire.InterceptDispositionType;
  await manager.reviewIntercept({ session: agent, id, disposition: ACTIVE, environment: { SECRET: 'x' } });
  assert.deepEqual(await ours(), [[id], []]);
  assert.deepEqual(await agents(), [[id], []]);
  await manager.removeIntercept({ session, name: 'web' });
  assert.deepEqual(await ours(), [[], [id]]);
  assert.deepEqual(await agents(), [[], [id]]);
});

test('an agent does not hear the environment of its intercepts, nor anybody without a session who holds them', async () => {
  const session = await arrive();
  const agent = await arriveAgent('a');
  parts.store.addIntercept(parts.store.client(session.sessionId), interceptSpec());
  const verdict = { id: `${session.sessionId}:web`, disposition: wire.InterceptDispositionType.ACTIVE };
  await manager.reviewIntercept({ session: agent, ...verdict, environment: { SECRET: 'x' } });
  const first = async (sessionId: string): Promise<string> => {
    const { value } = await manager.watchInterceptsDelta({ sessionId })[Symbol.asyncIterator]().next();
    return JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each));
  };
  assert.match(await first(session.sessionId), /SECRET/);
  assert.doesNotMatch(await first(agent.sessionId), /SECRET/);
  assert.match(await first(agent.sessionId), new RegExp(session.sessionId), 'the agent diverts to that session');
  assert.doesNotMatch(await first(''), new RegExp(`SECRET|${session.sessionId}`));
});

test('agents to connect to: marked while intercepted, and of other namespaces when those are named', async () => {
  const session = await arrive();
  await arriveAgent('a');
  await arriveAgent('far', { name: 'far', namespace: 'other' });
  const near = reader(manager.watchAgentPodsDelta(session));
  const all = manager.watchAgentPodsInNamespacesDelta({ session, namespaces: ['other'] })[Symbol.asyncIterator]();
  assert.deepEqual(await near(), [['agent:uid-a'], []]);
  const first = (await all.next()).value as wire.AgentPodInfoDelta;
  assert.deepEqual(keys(first)[0], ['agent:uid-a', 'agent:uid-far']);
  assert.deepEqual(
    Object.values(first.upserts).map(({ intercepted }) => intercepted),
    [false, false],
  );
  parts.store.addIntercept(parts.store.client(session.sessionId), interceptSpec());
  const second = (await all.next()).value as wire.AgentPodInfoDelta;
  assert.deepEqual(keys(second), [['agent:uid-a'], []]);
  assert.equal(second.upserts['agent:uid-a']?.intercepted, true);
  assert.deepEqual(await near(), [['agent:uid-a'], []]);
});

test('agents and intercepts on one stream, each in a message of its own', async () => {
  const session = await arrive();
  await arriveAgent('a');
  const events = manager.watchSessionEvents({ session, namespaces: [] })[Symbol.asyncIterator]();
  const next = async () => {
    const { agentPods, intercepts } = (await events.next()).value as wire.SessionEventsDelta;
    return [agentPods && keys(agentPods), intercepts && keys(intercepts)];
  };
  const id = `${session.sessionId}:web`;
  assert.deepEqual(await next(), [[['agent:uid-a'], []], undefined]);
  assert.deepEqual(await next(), [undefined, [[], []]]);
  parts.store.addIntercept(parts.store.client(session.sessionId), interceptSpec());
  assert.deepEqual(await next(), [[['agent:uid-a'], []], undefined]);
  assert.deepEqual(await next(), [undefined, [[id], []]]);
});

test('a peer whose session is over notices: its watches end, and it comes back', async () => {
  const session = await arrive();
  const agent = await arriveAgent('a');
  const watches = [
    manager.watchAgentsDelta(session),
    manager.watchInterceptsDelta(session),
    manager.watchAgents(session),
    manager.watchIntercepts(session),
    manager.watchAgentPods(session),
    manager.watchSessionEvents({ session }),
    manager.watchInterceptsDelta({ sessionId: agent.sessionId }),
    manager.watchIntercepts({ sessionId: agent.sessionId }),
  ].map((each) => (each as AsyncIterable<unknown>)[Symbol.asyncIterator]());
  for (const watch of watches) {
    await watch.next();
  }
  await manager.depart(session);
  await manager.depart({ sessionId: agent.sessionId });
  for (const watch of watches) {
    let isDone = false;
    while (!isDone) {
      isDone = (await watch.next()).done === true;
    }
  }
});

test('an agent that arrives again under its id keeps what it watches', async () => {
  const agent = await arriveAgent('a');
  const session = await arrive();
  const next = reader(manager.watchInterceptsDelta({ sessionId: agent.sessionId }));
  await next();
  await arriveAgent('a');
  parts.store.addIntercept(parts.store.client(session.sessionId), interceptSpec());
  assert.deepEqual(await next(), [[`${session.sessionId}:web`], []]);
});

test('deltas of an unknown session are not found', async () => {
  const session = { sessionId: 'nobody' };
  const watches: AsyncIterable<unknown>[] = [
    manager.watchAgentsDelta(session),
    manager.watchInterceptsDelta(session),
    manager.watchAgentPodsDelta(session),
    manager.watchAgentPodsInNamespacesDelta({ session }),
    manager.watchSessionEvents({ session }),
  ];
  for (const watch of watches) {
    await assert.rejects(
      watch[Symbol.asyncIterator]().next(),
      (error) => error instanceof ConnectError && error.code === Code.NotFound,
    );
  }
});
