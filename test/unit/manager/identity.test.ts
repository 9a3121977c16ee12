import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { NearfieldError, silentLogger, systemClock } from '../../../src/base/index.ts';
import type { ResourceAttributes, UserInfo } from '../../../src/kube/index.ts';
import { AccessReviewer } from '../../../src/manager/identity/access.ts';
import { readClaims, TokenReviewer } from '../../../src/manager/identity/tokens.ts';

import { metadataOf, Sessions, Workloads, wire } from '../../../src/protocol/index.ts';
import { createCallTransport, createGrpcServer, openHttp2 } from '../../../src/protocol/transport/index.ts';
import { deployment, FakeCluster, podOf, webService } from './fake-cluster.ts';
import { fakeManager } from './fake-manager.ts';
import { HandClock } from './hand-clock.ts';
import { clientInfo, interceptSpec, knownAgentInfo } from './messages.ts';

// Who calls and whether they may, over real HTTP/2 and with an API server in memory.
const limit = { timeout: 10_000 };
const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) {
    await end();
  }
});

const failsWith =
  (code: Code, text = /./) =>
  (error: unknown) =>
    error instanceof ConnectError && error.code === code && text.test(error.message);

/** Tokens and rights as an API server has them: `ann` may everything in shop but the workload db. */
class Cluster extends FakeCluster {
  readonly users = new Map<string, UserInfo>([
    ['token-ann', { username: 'ann', uid: '1', groups: ['team'] }],
    ['token-bob', { username: 'bob', uid: '2' }],
  ]);
  readonly reviewed: string[] = [];
  readonly asked: string[] = [];
  denied = (user: UserInfo, { resource, namespace, name }: ResourceAttributes): boolean =>
    namespace !== 'shop' || (user.username === 'bob' && resource === 'attachments') || name === 'db';

  constructor() {
    super(deployment(), webService());
    const pod = podOf('web', '1');
    this.put({ ...pod, status: { ...pod.status, podIPs: [{ ip: '127.0.0.1' }] } } as never);
    Object.assign(this.kube, {
      reviewToken: async (token: string) => {
        this.reviewed.push(token);
        return this.users.get(token);
      },
      reviewAccess: async (user: UserInfo, attributes: ResourceAttributes) => {
        const { verb, resource, namespace, name } = attributes;
        this.asked.push([user.username, verb, resource, namespace, name].filter(Boolean).join(' '));
        return !this.denied(user, attributes);
      },
    });
  }
}

interface Connected {
  readonly manager: Client<typeof wire.Manager>;
  readonly sessions: Client<typeof Sessions>;
  readonly workloads: Client<typeof Workloads>;
}

async function open(requireToken: boolean) {
  const cluster = new Cluster();
  const parts = fakeManager(cluster, undefined, { requireToken });
  const server = createGrpcServer({
    clock: systemClock,
    service: 'manager',
    routes: parts.routes,
    acceptTunnel: (...call) => parts.router.accept(...call),
  });
  ends.push(() => server.close());
  const port = await server.listen(0, '127.0.0.1');
  const connect = async (token?: string): Promise<Connected> => {
    const session = await openHttp2(
      { host: '127.0.0.1', port },
      { clock: systemClock, signal: new AbortController().signal },
    );
    ends.push(() => session.destroy());
    const transport = createCallTransport(session, {
      authorization: async () => (token === undefined ? undefined : metadataOf(token)),
    });
    return {
      manager: createClient(wire.Manager, transport),
      sessions: createClient(Sessions, transport),
      workloads: createClient(Workloads, transport),
    };
  };
  return { cluster, ...parts, connect };
}

const arrive = async ({ manager }: Connected, more = {}): Promise<{ sessionId: string }> => {
  const { sessionId } = await manager.arriveAsClient(clientInfo(more));
  return { sessionId };
};

test('where no token is required, a client without one is served as ever', limit, async () => {
  const { connect } = await open(false);
  const stock = await connect();
  const session = await arrive(stock);
  await stock.manager.remain({ session });
  const { authSupported, authRequired } = await stock.manager.version({});
  assert.deepEqual({ authSupported, authRequired }, { authSupported: true, authRequired: false });
});

test('a token that nobody knows is none where none is required', limit, async () => {
  const { connect, store } = await open(false);
  const { sessionId } = await arrive(await connect('expired'));
  assert.equal(store.clients.get(sessionId)?.user, undefined);
});

test('a session that was opened with a token is of no use to whoever has another, or none', limit, async () => {
  const { connect } = await open(false);
  const session = await arrive(await connect('token-ann'));
  for (const token of ['token-bob', undefined, 'expired']) {
    const { manager } = await connect(token);
    await assert.rejects(manager.remain({ session }), failsWith(Code.PermissionDenied, /somebody else/));
    await assert.rejects(manager.depart(session), failsWith(Code.PermissionDenied));
    await assert.rejects(
      manager.watchIntercepts(session)[Symbol.asyncIterator]().next(),
      failsWith(Code.PermissionDenied),
    );
    await assert.rejects(manager.reconnectClient({ session, client: clientInfo() }), failsWith(Code.PermissionDenied));
  }
  await (await connect('token-ann')).manager.remain({ session });
});

test('where tokens are required, a call without one says what to do', limit, async () => {
  const { connect } = await open(true);
  const stock = await connect();
  assert.equal((await stock.manager.version({})).authRequired, true);
  await assert.rejects(arrive(stock), failsWith(Code.Unauthenticated, /without a token.*release 2\.31/));
  await assert.rejects(
    stock.manager.watchIntercepts({ sessionId: '' })[Symbol.asyncIterator]().next(),
    failsWith(Code.Unauthenticated),
  );
  await assert.rejects(stock.manager.setLogLevel({ logLevel: 'debug' }), failsWith(Code.Unauthenticated));
  await assert.rejects(arrive(await connect('expired')), failsWith(Code.Unauthenticated, /does not accept the token/));
});

test('the API server is asked for each namespace and verb, and its no is a sentence', limit, async () => {
  const { connect, cluster } = await open(true);
  const ann = await connect('token-ann');
  const session = await arrive(ann);
  await assert.rejects(
    arrive(ann, { namespace: 'bank' }),
    failsWith(Code.PermissionDenied, /ann may not create connections in namespace bank.*connections\.nearfield\.dev/),
  );
  const watched = (...namespaces: string[]) =>
    ann.workloads.watchNamespaces({ session, namespaces })[Symbol.asyncIterator]().next();
  assert.equal((await watched('shop')).value?.namespace, 'shop');
  await assert.rejects(watched('shop', 'bank'), failsWith(Code.PermissionDenied, /in namespace bank/));
  const spec = interceptSpec({ portIdentifier: 'http' });
  assert.equal((await ann.manager.prepareIntercept({ session, interceptSpec: spec })).error, '');
  assert.ok(cluster.asked.includes('ann create attachments shop web'));
  await ann.manager.uninstallAgents({ sessionInfo: session, agents: [] });
  assert.ok(cluster.asked.includes('ann delete attachments shop'));
  await assert.rejects(
    ann.manager.setLogLevel({ logLevel: 'debug' }),
    failsWith(Code.PermissionDenied, /update loglevels in namespace ambassador/),
  );
});

test('a dry run says in its answer what is not allowed, as clients of every release show it', limit, async () => {
  const { connect } = await open(true);
  const bob = await connect('token-bob');
  const session = await arrive(bob);
  const { error } = await bob.manager.prepareIntercept({ session, interceptSpec: interceptSpec() });
  assert.match(error, /^bob may not create attachments of web in namespace shop\. Ask the owner/);
  await assert.rejects(
    bob.manager.createIntercept({ session, interceptSpec: interceptSpec() }),
    failsWith(Code.PermissionDenied, /bob may not create attachments/),
  );
  await assert.rejects(bob.manager.ensureAgent({ session, name: 'web' }), failsWith(Code.PermissionDenied));
  await assert.rejects(bob.manager.getAgentConfig({ session, name: 'web' }), failsWith(Code.PermissionDenied));
});

test('who comes back after a restart gets only the attachments that they may have', limit, async () => {
  const { connect, store } = await open(true);
  const sessionId = '00000000-0000-4000-8000-000000000001';
  const { manager } = await connect('token-ann');
  await manager.reconnectClient({
    session: { sessionId },
    client: clientInfo(),
    intercepts: [
      { id: `${sessionId}:web`, spec: interceptSpec() },
      { id: `${sessionId}:db`, spec: interceptSpec({ name: 'db', agent: 'db' }) },
      { id: `${sessionId}:x`, spec: interceptSpec({ name: 'x', namespace: 'bank' }) },
    ],
  });
  assert.deepEqual([...store.intercepts.keys()], [`${sessionId}:web`]);
  assert.equal(store.clients.get(sessionId)?.user?.username, 'ann');
});

test('the gate knows a connection by what was called over it', limit, async () => {
  const { connect, guard } = await open(true);
  const { sessionId } = await arrive(await connect('token-ann'));
  const stranger = { address: '127.0.0.1' };
  assert.equal(await guard.gate.mayTunnel(stranger, undefined, sessionId), false);
  assert.equal(await guard.gate.mayTunnel(stranger, metadataOf('token-bob'), sessionId), false);
  assert.equal(await guard.gate.mayTunnel(stranger, metadataOf('token-ann'), sessionId), true);
  assert.equal(guard.gate.mayTunnel(stranger, undefined, sessionId), true, 'the token was shown before');
  assert.equal(await guard.gate.mayTunnel(stranger, metadataOf('token-ann'), 'nobody'), false);
});

test('an agent calls from its own pod only, where it matters who calls', limit, async () => {
  const { connect, cluster } = await open(true);
  const { manager } = await connect();
  const { sessionId } = await manager.arriveAsAgent(knownAgentInfo());
  await manager.remain({ session: { sessionId } });
  const pod = podOf('web', '1');
  cluster.put({ ...pod, status: { ...pod.status, podIPs: [{ ip: '10.0.0.9' }] } } as never);
  await assert.rejects(manager.remain({ session: { sessionId } }), failsWith(Code.PermissionDenied, /its own pod/));
  await assert.rejects(
    manager.watchIntercepts({ sessionId })[Symbol.asyncIterator]().next(),
    failsWith(Code.PermissionDenied),
  );
  await assert.rejects(manager.arriveAsAgent(knownAgentInfo()), failsWith(Code.PermissionDenied));
});

test('an agent lets dial whoever may attach to its workload', limit, async () => {
  const { connect } = await open(true);
  const agent = await connect();
  const { sessionId: agentSessionId } = await agent.manager.arriveAsAgent(knownAgentInfo());
  const ask = async (clientSessionId: string): Promise<boolean> =>
    (await agent.sessions.mayDial({ agentSessionId, clientSessionId })).allowed;
  const ann = await arrive(await connect('token-ann'));
  const bob = await arrive(await connect('token-bob'));
  assert.deepEqual([await ask(ann.sessionId), await ask(bob.sessionId), await ask('nobody')], [true, false, false]);
});

test('a token is reviewed once a minute, and never after its own end', async () => {
  const clock = new HandClock();
  let reviews = 0;
  const kube = {
    reviewToken: async (): Promise<UserInfo> => {
      reviews++;
      return { username: 'ann' };
    },
  };
  const tokens = new TokenReviewer({ kube, clock, log: silentLogger });
  const jwt = (claims: object): string => `h.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.s`;
  await Promise.all([tokens.identify('a'), tokens.identify('a')]);
  clock.advance(59_000);
  await tokens.identify('a');
  assert.equal(reviews, 1);
  clock.advance(2_000);
  await tokens.identify('a');
  assert.equal(reviews, 2);
  const short = jwt({ exp: clock.wallMs() / 1_000 + 5 });
  await tokens.identify(short);
  clock.advance(6_000);
  await tokens.identify(short);
  assert.equal(reviews, 4);
  assert.equal(readClaims(jwt({ aud: ['nearfield.dev'] })).isForUs, true);
  assert.equal(readClaims(jwt({ aud: 'https://kubernetes.default.svc' })).isForUs, false);
  assert.equal(readClaims('opaque').isForUs, false);
});

test('a manager that may not review tokens says so, and takes none', async () => {
  const kube = {
    reviewToken: async (): Promise<never> => {
      throw new NearfieldError('forbidden', { code: 'permission_denied', reason: 'kube.forbidden' });
    },
  };
  const tokens = new TokenReviewer({ kube, clock: new HandClock(), log: silentLogger });
  await tokens.probe();
  assert.equal(tokens.isAvailable, false);
});

test('strangers’ tokens do not flood the API server', async () => {
  const kube = { reviewToken: () => new Promise<undefined>(() => undefined) };
  const tokens = new TokenReviewer({ kube, clock: new HandClock(), log: silentLogger });
  for (let each = 0; each < 32; each++) {
    void tokens.identify(`t${each}`);
  }
  await assert.rejects(tokens.identify('one more'), { reason: 'manager.busy' });
  assert.equal(await tokens.identify('x'.repeat(20_000)), undefined);
});

test('a right is asked about again when it may have been given or taken', async () => {
  const clock = new HandClock();
  let answer = true;
  let asked = 0;
  const access = new AccessReviewer(
    {
      reviewAccess: async () => {
        asked++;
        return answer;
      },
    },
    clock,
  );
  const may = (name: string): Promise<boolean> =>
    access.may({ username: 'ann' }, { verb: 'create', resource: 'attachments', namespace: 'shop', name });
  assert.equal(await may('web'), true);
  answer = false;
  assert.equal(await may('web'), true);
  clock.advance(61_000);
  assert.equal(await may('web'), false);
  answer = true;
  clock.advance(6_000);
  assert.equal(await may('web'), true);
  assert.equal(asked, 3);
});
