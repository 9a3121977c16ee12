import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { interceptSnapshot } from '../../../src/manager/service/convert.ts';
import { wire } from '../../../src/protocol/index.ts';
import { deployment, FakeCluster, podOf, service, webService } from './fake-cluster.ts';
import { fakeManager } from './fake-manager.ts';
import { settled } from './hand-clock.ts';
import { agentInfo, clientInfo, interceptSpec } from './messages.ts';

let cluster: FakeCluster;
let parts: ReturnType<typeof fakeManager>;
let manager: Client<typeof wire.Manager>;

beforeEach(() => {
  cluster = new FakeCluster(deployment(), webService(), podOf('web', '1'));
  parts = fakeManager(cluster);
  manager = createClient(wire.Manager, createRouterTransport(parts.routes));
});

const failsWith = (code: Code) => (error: unknown) => error instanceof ConnectError && error.code === code;
const arrive = async (more = {}): Promise<{ sessionId: string }> => {
  const { sessionId } = await manager.arriveAsClient(clientInfo(more));
  return { sessionId };
};
const specWithoutPort = { containerPort: 0, protocol: '' };

test('a client arrives, remains and departs', async () => {
  const session = await arrive();
  await manager.remain({ session });
  await manager.depart(session);
  await assert.rejects(manager.remain({ session }), failsWith(Code.NotFound));
});

for (const name of ['a\nb', '\u001b[2J', 'x'.repeat(10_000)]) {
  test(`a client named ${JSON.stringify(name).slice(0, 20)} is refused: people read names`, async () => {
    await assert.rejects(arrive({ name }), failsWith(Code.InvalidArgument));
    await assert.rejects(manager.arriveAsAgent(agentInfo({ name })), failsWith(Code.InvalidArgument));
  });
}

test('an agent cannot come back as another', async () => {
  const session = { sessionId: 'agent:uid-of-another' };
  await assert.rejects(manager.reconnectAgent({ session, agent: agentInfo() }), failsWith(Code.InvalidArgument));
});

test('an intercept is shown to whoever holds it, and to nobody who knows its name', async () => {
  const [ann, bob] = [await arrive(), await arrive({ name: 'bob@laptop' })];
  const { id } = parts.store.addIntercept(parts.store.client(ann.sessionId), interceptSpec());
  assert.equal((await manager.getIntercept({ session: ann, name: 'web' })).id, id);
  await assert.rejects(manager.getIntercept({ session: bob, name: id }), failsWith(Code.NotFound));
  await assert.rejects(manager.getIntercept({ name: id }), failsWith(Code.NotFound));
});

for (const [what, more] of [
  ['a name', { name: '' }],
  ['a namespace', { namespace: '' }],
  ['a readable version', { version: 'new' }],
] as const) {
  test(`a client without ${what} is refused`, async () => {
    await assert.rejects(arrive(more), failsWith(Code.InvalidArgument));
  });
}

test('an agent keeps its session over a restart of its container', async () => {
  const first = await manager.arriveAsAgent(agentInfo());
  const second = await manager.arriveAsAgent(agentInfo());
  assert.equal(first.sessionId, 'agent:uid-web-new');
  assert.equal(second.sessionId, first.sessionId);
  assert.equal(parts.store.agents.size, 1);
});

test('after a restart of the manager a client comes back under its old session with its intercepts', async () => {
  const sessionId = '00000000-0000-4000-8000-000000000001';
  await manager.reconnectClient({
    session: { sessionId },
    client: clientInfo(),
    intercepts: [{ id: `${sessionId}:web`, spec: interceptSpec() }],
  });
  await manager.remain({ session: { sessionId } });
  assert.deepEqual([...parts.store.intercepts.keys()], [`${sessionId}:web`]);
});

test('a session id that no manager makes cannot be taken over', async () => {
  for (const sessionId of ['agent:uid-web-new', '', 'x']) {
    await assert.rejects(
      manager.reconnectClient({ session: { sessionId }, client: clientInfo() }),
      failsWith(Code.InvalidArgument),
    );
  }
});

test('a call in the name of an unknown session is not found', async () => {
  const session = { sessionId: 'nobody' };
  await assert.rejects(manager.createIntercept({ session, interceptSpec: interceptSpec() }), failsWith(Code.NotFound));
  await assert.rejects(manager.lookupDNS({ session, name: 'web.', type: 1 }), failsWith(Code.NotFound));
  await assert.rejects(
    manager.watchAgents(session)[Symbol.asyncIterator]().next(),
    failsWith(Code.NotFound),
    'a watch fails with its first message',
  );
});

test('a stock client reads in the first words that it is forgotten, and comes back', async () => {
  const prepared = manager.prepareIntercept({ session: { sessionId: 'nobody' }, interceptSpec: interceptSpec() });
  await assert.rejects(
    prepared,
    (error) => failsWith(Code.NotFound)(error) && (error as ConnectError).rawMessage.startsWith('Client session '),
  );
});

test('what is not built answers unimplemented, so that peers fall back', async () => {
  await assert.rejects(manager.updateIntercept({}), failsWith(Code.Unimplemented));
});

test('preparing an intercept fills in what the port means, and changes nothing', async () => {
  const session = await arrive();
  const prepared = await manager.prepareIntercept({ session, interceptSpec: interceptSpec(specWithoutPort) });
  assert.equal(prepared.error, '');
  assert.deepEqual(
    [prepared.serviceName, prepared.servicePort, prepared.containerName, prepared.containerPort, prepared.workloadKind],
    ['web', 80, 'server', 8080, 'Deployment'],
  );
  assert.deepEqual(cluster.calls, []);
});

test('a mistake of the person is an answer with a hint, not a failed call', async () => {
  const session = await arrive();
  const missing = await manager.prepareIntercept({ session, interceptSpec: interceptSpec({ agent: 'nothing' }) });
  assert.match(missing.error, /no workload nothing/);
  assert.equal(missing.errorCategory, 1);
  cluster.put(service('web', 'web', [{ name: 'http', port: 80, targetPort: 8080 }]));
  const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  cluster.put({ kind: 'Namespace', metadata: { name: 'shop', labels } } as never);
  const numeric = await manager.prepareIntercept({ session, interceptSpec: interceptSpec() });
  assert.match(numeric.error, /port 8080 of web is called by its number.*restricted.*Give the container port a name/);
});

test('an intercept gets its agent by a rolling update, waits for the verdict, and becomes active', async () => {
  const session = await arrive();
  const created = manager.createIntercept({ session, interceptSpec: interceptSpec(specWithoutPort) });
  await settled();
  assert.deepEqual(cluster.calls, ['patch Deployment web strategic']);
  const agent = await manager.arriveAsAgent(agentInfo());
  const { id, disposition, spec } = await created;
  assert.equal(disposition, wire.InterceptDispositionType.WAITING);
  assert.deepEqual([spec?.containerPort, spec?.protocol, spec?.serviceUid], [8080, 'TCP', 'uid-web']);
  const { ACTIVE } = wire.InterceptDispositionType;
  await manager.reviewIntercept({ session: agent, id, disposition: ACTIVE, environment: { GREETING: 'hi' } });
  const found = await manager.getIntercept({ session, name: 'web' });
  assert.equal(found.disposition, ACTIVE);
  assert.deepEqual(found.environment, { GREETING: 'hi' });
});

test('a port that somebody holds is refused with the name of the holder', async () => {
  const [ann, bob] = [await arrive(), await arrive({ name: 'bob@laptop' })];
  const created = manager.createIntercept({ session: ann, interceptSpec: interceptSpec() });
  await settled();
  await manager.arriveAsAgent(agentInfo());
  await created;
  const spec = interceptSpec({ name: 'mine', client: 'bob@laptop' });
  await assert.rejects(
    manager.createIntercept({ session: bob, interceptSpec: spec }),
    (error) => failsWith(Code.AlreadyExists)(error) && /ann@laptop/.test(String(error)),
  );
});

test('a call that the cluster forbids fails at once, without waiting for an agent', async () => {
  const session = await arrive();
  cluster.failure = Object.assign(new RangeError('forbidden'), {});
  await assert.rejects(manager.createIntercept({ session, interceptSpec: interceptSpec() }), /forbidden/);
});

test('the agent’s watch shows the intercepts of its workload, the client’s watch its own', async () => {
  const [ann, bob] = [await arrive(), await arrive()];
  const agent = await manager.arriveAsAgent(agentInfo());
  parts.store.addIntercept(parts.store.client(ann.sessionId), interceptSpec());
  parts.store.addIntercept(parts.store.client(bob.sessionId), interceptSpec({ name: 'api', agent: 'api' }));
  const first = async (session: { sessionId: string }): Promise<string[]> => {
    const { value } = await manager.watchIntercepts(session)[Symbol.asyncIterator]().next();
    return (value?.intercepts ?? []).map((each: wire.InterceptInfo) => each.spec?.name);
  };
  assert.deepEqual(await first({ sessionId: agent.sessionId }), ['web']);
  assert.deepEqual(await first(ann), ['web']);
  assert.deepEqual(await first(bob), ['api']);
});

test('the list of workloads begins whole and goes on with what changed', async () => {
  const session = await arrive();
  const watch = manager.watchWorkloads({ sessionInfo: session })[Symbol.asyncIterator]();
  const next = async (): Promise<[string | undefined, number][]> =>
    ((await watch.next()).value?.events ?? []).map((event: wire.WorkloadEvent) => [event.workload?.name, event.type]);
  const { ADDED_UNSPECIFIED, MODIFIED, DELETED } = wire.WorkloadEvent_Type;
  assert.deepEqual(await next(), [['web', ADDED_UNSPECIFIED]]);
  cluster.put(deployment({ name: 'api' }));
  assert.deepEqual(await next(), [['api', ADDED_UNSPECIFIED]]);
  await manager.arriveAsAgent(agentInfo());
  assert.deepEqual(await next(), [['web', MODIFIED]]);
  cluster.remove(deployment({ name: 'api' }));
  assert.deepEqual(await next(), [['api', DELETED]]);
});

test('names are answered as raw records and as addresses', async () => {
  const session = await arrive();
  const { rCode, rrs } = await manager.lookupDNS({ session, name: 'web.', type: 1 });
  assert.equal(rCode, 0);
  assert.deepEqual([...rrs.slice(-4)], [10, 0, 0, 7]);
  const { ips } = await manager.lookup({ session, name: 'web.' });
  assert.deepEqual([...(ips[0] ?? [])], [10, 0, 0, 7]);
  assert.equal((await manager.lookupDNS({ session, name: 'no.', type: 1 })).rCode, 3);
});

test('pods tell after a restart which workloads have an agent', async () => {
  const config = { agentName: 'web', namespace: 'shop', workloadName: 'web', workloadKind: 'Deployment' };
  const text = JSON.stringify({ ...config, managerHost: 'm', containers: [] });
  cluster.put(podOf('web', '1', { config: text }));
  cluster.put(podOf('web', '2', { config: 'not json' }));
  parts.intercepts.relearn();
  assert.equal((await parts.intercepts.configOf(cluster.workload('web')))?.agentName, 'web');
});

test('environments and session ids are for those who intercept: nobody else reads them', async () => {
  const session = await arrive();
  cluster.put(podOf('web', '1'));
  parts.store.addAgent('agent:1', agentInfo());
  await manager.createIntercept({ session, interceptSpec: interceptSpec() });
  const agent = parts.store.agents.get('agent:1');
  assert.ok(agent);
  const verdict = { id: `${session.sessionId}:web`, disposition: wire.InterceptDispositionType.ACTIVE };
  parts.store.review(agent, create(wire.ReviewInterceptRequestSchema, { ...verdict, environment: { PASSWORD: 'x' } }));
  const seenBy = (sessionId: string): string =>
    JSON.stringify(
      interceptSnapshot(parts.store, sessionId).intercepts.map(({ id, environment, clientSession, spec }) => [
        id,
        environment,
        clientSession?.sessionId,
        spec?.name,
      ]),
    );
  assert.match(seenBy(session.sessionId), /PASSWORD/);
  assert.doesNotMatch(seenBy('agent:1'), /PASSWORD/);
  assert.match(seenBy('agent:1'), new RegExp(session.sessionId), 'the agent diverts to that session');
  assert.doesNotMatch(seenBy(''), /PASSWORD/);
  assert.doesNotMatch(seenBy(''), new RegExp(session.sessionId));
  assert.match(seenBy(''), /web/);
});

test('a workload without an agent has the configuration that it would get, and stays without', async () => {
  const session = await arrive();
  const { data } = await manager.getAgentConfig({ session, name: 'web', namespace: 'shop' });
  const { agentName, containers } = JSON.parse(new TextDecoder().decode(data));
  assert.equal(agentName, 'web');
  assert.equal(containers[0].intercepts[0].containerPort, 8080);
  assert.equal(await parts.intercepts.configOf(cluster.workload('web')), undefined);
  await assert.rejects(manager.getAgentConfig({ session, name: 'nobody' }), failsWith(Code.NotFound));
});

const faulty: [string, Parameters<typeof interceptSpec>[0], RegExp][] = [
  ['filters without the mechanism for them', { headerFilters: { 'x-user': 'ann' } }, /mechanism http/],
  ['the mechanism for filters without one', { mechanism: 'http' }, /without filters/],
  ['a filter that is none', { mechanism: 'http', headerFilters: { 'x-user': '(' } }, /no regular expression/],
  ['a further port that does not exist', { podPorts: ['9000'] }, /no service port 9000/],
  ['a further port that is none', { podPorts: ['; rm'] }, /no further port/],
  ['the same port twice', { podPorts: ['http:4000'] }, /named twice/],
  ['a container that does not exist', { containerName: 'nobody' }, /no container nobody/],
];

for (const [what, more, why] of faulty) {
  test(`${what}: refused before anything in the cluster changes, never answered with all of the traffic`, async () => {
    const session = await arrive();
    const prepared = await manager.prepareIntercept({ session, interceptSpec: interceptSpec(more) });
    assert.match(prepared.error, why);
    await assert.rejects(manager.createIntercept({ session, interceptSpec: interceptSpec(more) }));
    assert.deepEqual(cluster.calls, []);
  });
}

test('an agent that does not know filters gets no intercept with some', async () => {
  const session = await arrive();
  cluster.put(podOf('web', '1'));
  parts.store.addAgent('agent:old', agentInfo({ mechanisms: [{ name: 'tcp', product: 'p', version: 'v2.24.0' }] }));
  const spec = interceptSpec({ mechanism: 'http', headerFilters: { 'x-user': 'ann' } });
  const { disposition, message } = await manager.createIntercept({ session, interceptSpec: spec });
  assert.equal(disposition, wire.InterceptDispositionType.NO_MECHANISM);
  assert.match(message, /No agent has mechanism http/);
});

test('a client that leaves while its agent is on the way leaves no intercept behind', async () => {
  const session = await arrive();
  const created = manager.createIntercept({ session, interceptSpec: interceptSpec() });
  await settled();
  await manager.depart(session);
  await manager.arriveAsAgent(agentInfo());
  await assert.rejects(created, failsWith(Code.NotFound));
  assert.equal(parts.store.intercepts.size, 0);
});

test('of two who ask for a port together one gets it, and the pods are replaced once', async () => {
  const [ann, bob] = [await arrive(), await arrive({ name: 'bob@laptop' })];
  const both = [
    manager.createIntercept({ session: ann, interceptSpec: interceptSpec() }),
    manager.createIntercept({ session: bob, interceptSpec: interceptSpec({ name: 'b', client: 'bob@laptop' }) }),
  ];
  const outcomes = Promise.allSettled(both);
  await settled();
  await manager.arriveAsAgent(agentInfo());
  assert.deepEqual((await outcomes).map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  assert.equal(parts.store.intercepts.size, 1);
  assert.deepEqual(cluster.calls, ['patch Deployment web strategic']);
});

test('who gives up waiting does not take the agent away from others', async () => {
  const session = await arrive();
  const controller = new AbortController();
  const request = { session, name: 'web', namespace: 'shop' };
  const first = manager.ensureAgent(request, { signal: controller.signal });
  const second = manager.ensureAgent(request);
  await settled();
  controller.abort();
  await assert.rejects(first, failsWith(Code.Canceled));
  await settled();
  assert.ok(await parts.intercepts.configOf(cluster.workload('web')), 'the injector still knows the workload');
  await manager.arriveAsAgent(agentInfo());
  assert.equal((await second).agents.length, 1);
});

test('a new service port reaches pods that have an agent already', async () => {
  const session = await arrive();
  const request = { session, name: 'web', namespace: 'shop' };
  const first = manager.ensureAgent(request);
  await settled();
  await manager.arriveAsAgent(agentInfo());
  await first;
  const config = JSON.stringify(await parts.intercepts.configOf(cluster.workload('web')));
  cluster.put(podOf('web', '1', { config }));
  await manager.ensureAgent(request);
  assert.equal(cluster.calls.length, 1, 'nothing has changed yet');
  cluster.put(service('more', 'web', [{ name: 'more', port: 81, targetPort: 'http' }]));
  await manager.ensureAgent(request);
  assert.equal(cluster.calls.length, 2);
});

test('every watch of an unknown session is not found', async () => {
  const session = { sessionId: 'nobody' };
  for (const watch of [manager.watchWorkloads({ sessionInfo: session }), manager.watchDial(session)]) {
    await assert.rejects(watch[Symbol.asyncIterator]().next(), failsWith(Code.NotFound));
  }
});

test('the agent of a pod that is ending does not come back', async () => {
  const pod = podOf('web', 'new');
  await manager.arriveAsAgent(agentInfo());
  cluster.put({ ...pod, metadata: { ...pod.metadata, deletionTimestamp: new Date(0) } } as typeof pod);
  await assert.rejects(manager.arriveAsAgent(agentInfo()), failsWith(Code.Aborted));
});
