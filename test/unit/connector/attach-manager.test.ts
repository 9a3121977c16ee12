import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { silentLogger, systemClock } from '../../../src/base/index.ts';
import type { AttachRequest } from '../../../src/connector/contract.ts';
import { Attachments } from '../../../src/connector/intercept/attachments.ts';
import { ClusterDialer } from '../../../src/connector/outbound/dial.ts';
import { wire } from '../../../src/protocol/index.ts';
import { createGrpcServer } from '../../../src/protocol/transport/index.ts';
import { connectSession } from '../../support/scripted-manager.ts';
import { deployment, FakeCluster, podOf, service, webContainer } from '../manager/fake-cluster.ts';
import { fakeManager } from '../manager/fake-manager.ts';
import { agentInfo } from '../manager/messages.ts';

// What the connector asks for and what our own traffic-manager makes of it, over real HTTP/2.
const limit = { timeout: 10_000 };
const { ACTIVE, WAITING } = wire.InterceptDispositionType;
const environment = { GREETING: 'hello' };
const ends: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) {
    await end();
  }
});

/** A manager with one workload, `web`, whose agent takes whatever it is given. */
async function openManager(): Promise<number> {
  const container = {
    ...webContainer,
    ports: [
      { name: 'http', containerPort: 8080 },
      { name: 'admin', containerPort: 9090 },
      { name: 'dns', containerPort: 5353, protocol: 'UDP' },
    ],
  };
  const ports = [
    { name: 'http', port: 80, targetPort: 'http' },
    { name: 'admin', port: 9090, targetPort: 'admin' },
    { name: 'dns', port: 53, targetPort: 'dns', protocol: 'UDP' },
  ];
  const cluster = new FakeCluster(
    deployment({ containers: [container] }),
    service('web', 'web', ports),
    podOf('web', '1'),
  );
  const { store, routes, intercepts } = fakeManager(cluster, () => create(wire.ClusterInfoSchema, { dns: {} }));
  cluster.reaction = () => {
    cluster.reaction = () => undefined;
    void intercepts.configOf(cluster.workload('web')).then((config) => {
      cluster.put(podOf('web', '2', { config: JSON.stringify(config) }));
      cluster.remove(podOf('web', '1'));
    });
  };
  const containers = { server: { environment } };
  store.addAgent(
    'agent:uid-web-1',
    agentInfo({
      containers,
      mechanisms: ['tcp', 'http'].map((name) => ({ name, product: 'nearfield', version: 'v2.24.0' })),
    }),
  );
  store.onChanged(() => {
    const agent = store.agents.get('agent:uid-web-1');
    const waiting = [...store.intercepts.values()].find(({ disposition }) => disposition === WAITING);
    if (agent && waiting) {
      const verdict = { id: waiting.id, disposition: ACTIVE, podIp: '10.0.0.1', environment };
      store.review(agent, create(wire.ReviewInterceptRequestSchema, verdict));
    }
  });
  const grpc = createGrpcServer({ clock: systemClock, service: 'manager', routes, acceptTunnel: () => undefined });
  ends.push(() => grpc.close());
  return grpc.listen(0, '127.0.0.1');
}

async function connect(port: number): Promise<Attachments> {
  const session = await connectSession(port);
  const dialer = new ClusterDialer({ clock: systemClock, tunnels: () => session.tunnels });
  const attachments = new Attachments({ session, dialer, namespace: 'shop', clock: systemClock, log: silentLogger });
  ends.push(() => session.close());
  ends.push(() => attachments.dispose());
  return attachments;
}

const web = (more: Partial<AttachRequest> = {}): AttachRequest => ({
  workload: 'deployment/web',
  ports: [{ remote: 'http', local: 3000 }],
  ...more,
});
const personal = (user: string): AttachRequest => web({ filters: { headers: { 'x-user': user } } });

test('an intercept of a named port is found, taken and shown', limit, async () => {
  const attachments = await connect(await openManager());
  const made = await attachments.attach(web());
  assert.deepEqual([made.name, made.kind, made.container, made.state], ['web', 'Deployment', 'server', 'active']);
  assert.deepEqual(made.ports, [
    { remote: 'http', servicePort: 80, containerPort: 8080, localPort: 3000, protocol: 'TCP' },
  ]);
  assert.deepEqual(attachments.environment('web'), environment);
  await attachments.leave('web');
  await attachments.attach(web());
});

test('a port that does not exist is said before anything is created', limit, async () => {
  const attachments = await connect(await openManager());
  await assert.rejects(attachments.attach(web({ ports: [{ remote: 'nowhere', local: 1 }] })), {
    reason: 'connector.intercept-failed',
    message: /nowhere/,
  });
  assert.deepEqual(attachments.views, []);
});

test('a port that somebody has is refused with the name of who has it', limit, async () => {
  const port = await openManager();
  const [mine, theirs] = [await connect(port), await connect(port)];
  await theirs.attach(web());
  await assert.rejects(mine.attach(web()), {
    reason: 'connector.intercept-failed',
    message: /already intercepted by .+@/,
  });
});

test('an ingest has the environment and blocks nobody', limit, async () => {
  const port = await openManager();
  const [mine, theirs] = [await connect(port), await connect(port)];
  await mine.attach({ mode: 'ingest', workload: 'web' });
  assert.deepEqual(mine.environment('web'), environment);
  await theirs.attach(web());
});

test('attachments with different filters, wiretaps and one without a filter share a port', limit, async () => {
  const port = await openManager();
  const [mine, theirs] = [await connect(port), await connect(port)];
  const made = await mine.attach(personal('ann'));
  assert.deepEqual(made.filters, { headers: { 'x-user': 'ann' }, paths: [], methods: [] });
  await theirs.attach(personal('bob'));
  await theirs.attach(web({ mode: 'wiretap', ports: [{ remote: 'http', local: 3001 }] }));
  await mine.attach(web({ mode: 'wiretap', ports: [{ remote: 'http', local: 3001 }] }));
  await mine.attach(web());
});

test('the same filter twice is refused with the name of who has it', limit, async () => {
  const port = await openManager();
  const [mine, theirs] = [await connect(port), await connect(port)];
  await theirs.attach(personal('ann'));
  await assert.rejects(mine.attach(web({ filters: { headers: { 'X-User': 'ann' } } })), /@/);
});

test('several ports and datagrams come to where they are wanted', limit, async () => {
  const attachments = await connect(await openManager());
  await attachments.attach(
    web({
      ports: [
        { remote: 'http', local: 3000 },
        { remote: 'admin', local: 3001 },
        { remote: 'dns', local: 5454, protocol: 'UDP' },
      ],
    }),
  );
  assert.equal(attachments.isAllowed('127.0.0.1', 3001, 'TCP'), true);
  assert.equal(attachments.isAllowed('127.0.0.1', 5454, 'UDP'), true);
});

test('a replaced container brings all its ports', limit, async () => {
  const attachments = await connect(await openManager());
  const made = await attachments.attach({ mode: 'replace', workload: 'web' });
  assert.equal(made.name, 'web/server');
  assert.deepEqual(made.ports.map(({ localPort }) => localPort).sort(), [5353, 8080, 9090]);
});
