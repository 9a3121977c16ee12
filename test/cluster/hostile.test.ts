import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { silentLogger, systemClock } from '../../src/base/index.ts';
import { installManager } from '../../src/connector/install/install.ts';
import { readInstallOptions } from '../../src/connector/install/options.ts';
import { type Kube, kinds, loadKube, type V1Pod } from '../../src/kube/index.ts';
import { wire } from '../../src/protocol/index.ts';
import { createCallTransport, http2Upgrade, openHttp2 } from '../../src/protocol/transport/index.ts';
import { ManagerPod, managerNamespace } from '../load/manager-pod.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { network, repositoryRoot } from './paths.ts';
import { run, waitFor } from './shell.ts';

// A stranger in the cluster: from the node's side of the pod network, from another pod, and through a port-forward.
const limit = { timeout: 240_000 };
const namespace = 'hostile';
/**
 * What the process keeps of the most that a caller may have at once, two thousand calls, for the next time; more attacks
 * make it no more.
 */
const roomMb = 300;
const recoveryMs = 60_000;

let cluster: Cluster;
let kube: Kube;
let manager: ManagerPod;
let target: V1Pod;
let agentPort = 0;
let restingMb = 0;
const close: (() => void)[] = [];

before(async () => {
  cluster = await openCluster();
  kube = loadKube({ kubeconfig: cluster.kubeconfig });
  await installManager({ kube, clock: systemClock, log: silentLogger }, readInstallOptions({}), { takeOver: true });
  manager = await ManagerPod.follow(kube);
  await cluster.kubectl('apply', '-f', join(repositoryRoot, 'test/cluster/manifests/hostile.yaml'));
  for (const name of ['target', 'stranger']) {
    await cluster.kubectl('-n', namespace, 'rollout', 'status', `deploy/${name}`, '--timeout=120s');
  }
  [target] = (await kube.list<V1Pod>(kinds.pod, { namespace, labelSelector: 'app=target' })) as [V1Pod];
  const logged = await cluster.kubectl('-n', namespace, 'logs', 'deploy/target', '-c', 'traffic-agent');
  agentPort = Number(/"apiPort":(\d+)/.exec(logged)?.[1]);
  // A pod that is ready is in the Service a moment later: kube-proxy writes its rules once a second.
  await waitFor('serving', recoveryMs, () => serves().then(() => true as const));
  restingMb = (await manager.usage())?.memoryMb ?? 0;
}, limit);

after(async () => {
  for (const each of close) {
    each();
  }
  await manager?.dispose();
  await cluster?.kubectl('delete', 'namespace', namespace, '--wait=false').catch(() => undefined);
}, limit);

const podOfManager = () => ({ namespace: managerNamespace, pod: manager.running?.metadata?.name ?? '', port: 8081 });

/** As a developer: through a port-forward, or through the API server's proxy. */
async function forwarded(way = () => kube.openPortForward(podOfManager())): Promise<Client<typeof wire.Manager>> {
  const session = await openHttp2(await way(), { clock: systemClock });
  close.push(() => session.destroy());
  return createClient(wire.Manager, createCallTransport(session));
}

const developer = { name: 'ann@laptop', installId: 'i', product: 'nearfield', version: 'v2.24.0', namespace };

/** A developer is served by the manager, and a caller in the cluster by the application behind the agent. */
async function serves(): Promise<void> {
  const client = await forwarded();
  const { sessionId } = await client.arriveAsClient(developer, { timeoutMs: 20_000 });
  await client.depart({ sessionId }, { timeoutMs: 20_000 });
  close.pop()?.();
  const script = `fetch('http://target.${namespace}:8080/x', { signal: AbortSignal.timeout(10000) }).then((r) => console.log(r.status))`;
  const status = await fromStranger(script);
  assert.equal(status.trim(), '200');
}

const fromStranger = (script: string): Promise<string> =>
  cluster.kubectl('-n', namespace, 'exec', 'deploy/stranger', '--', 'node', '-e', script);

const logOfManager = (): Promise<string> =>
  cluster.kubectl('-n', managerNamespace, 'logs', 'deploy/traffic-manager', '--tail=5000');

async function isWell(): Promise<void> {
  await waitFor('serving again', recoveryMs, () => serves().then(() => true as const));
  const pods = await kube.list<V1Pod>(kinds.pod, { namespace, labelSelector: 'app=target' });
  const restarts = pods.flatMap(
    ({ status }) => status?.containerStatuses?.map(({ restartCount }) => restartCount) ?? [],
  );
  assert.ok(
    restarts.every((count) => count === 0),
    'no container of the pod has ended',
  );
  assert.equal(manager.restarts, 0);
  // Garbage of a busy second is given back in a quiet one.
  let memoryMb = 0;
  await waitFor('memory near what it was', recoveryMs, async () => {
    memoryMb = (await manager.usage())?.memoryMb ?? 0;
    return memoryMb < restingMb + roomMb ? true : undefined;
  }).catch(() => assert.fail(`the manager grew from ${restingMb.toFixed(0)} to ${memoryMb.toFixed(0)} MB`));
}

const places = ['manager', 'agent', 'webhook', 'application'] as const;
const address = (place: (typeof places)[number]): readonly [string, number] => {
  const podIp = target.status?.podIP ?? '';
  const ports = { manager: 8081, agent: agentPort, webhook: 8443, application: 8080 };
  return [place === 'manager' || place === 'webhook' ? manager.address : podIp, ports[place]];
};

for (const [place, name] of [
  ...[
    'noise in place of HTTP',
    'random protobuf to many calls',
    'compressed bombs',
    'a header without end',
    'openings of our own that are none',
  ].flatMap((each) => [['manager', each] as const, ['agent', each] as const]),
  ['manager', 'thousands of header fields'],
  ['manager', 'a flood of settings'],
  ['manager', 'answers that nobody takes'],
  ['manager', 'requests without end'],
  ['manager', 'tunnels that say nothing'],
  ['agent', 'tunnels full of noise'],
  ['agent', 'hundreds of connections'],
  ['webhook', 'no TLS at all'],
  ['webhook', 'a head that does not end'],
  ['webhook', 'twenty reviews of five megabytes at once'],
  ['webhook', 'a pod of wrong types'],
  ['application', 'noise in place of HTTP'],
  ['application', 'hundreds of connections'],
] as const) {
  test(`${place}: ${name}`, limit, async (context) => {
    const [host, port] = address(place);
    const program = join(repositoryRoot, 'test/support/siege/main.ts');
    const inNode = [`--net=/run/netns/${network.namespace}`, process.execPath, program, host, String(port), name];
    context.diagnostic((await run('nsenter', inNode)).trim());
    await isWell();
  });
}

/** A call from another pod, by its bytes: the stranger has no library. Answers gRPC's status. */
async function callFromStranger<I extends DescMessage>(
  method: string,
  schema: I,
  message: MessageInitShape<I>,
  open = `begin(require('http2').connect('http://${manager.address}:8081'));`,
): Promise<Code | 0> {
  const body = Buffer.from(toBinary(schema, create(schema, message)));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(body.length, 1);
  const text = Buffer.concat([prefix, body]).toString('base64');
  const script = `
    const say = (headers) => { if (headers['grpc-status']) { console.log(headers['grpc-status']); process.exit(0); } };
    const begin = (session) => {
      const call = session.request({ ':method': 'POST', ':path': '/telepresence.manager.Manager/${method}', 'content-type': 'application/grpc', te: 'trailers' });
      call.on('response', say).on('trailers', say).on('data', () => { console.log('0'); process.exit(0); });
      call.end(Buffer.from('${text}', 'base64'));
    };
    ${open}
    setTimeout(() => { console.log('no answer'); process.exit(0); }, 15000);`;
  return Number((await fromStranger(script)).trim());
}

const agent = (): MessageInitShape<typeof wire.AgentInfoSchema> => ({
  ...{ name: 'target', namespace, kind: 'Deployment', product: 'nearfield', version: 'v2.24.0', apiPort: 9 },
  ...{ podName: target.metadata?.name ?? '', podUid: target.metadata?.uid ?? '', podIp: target.status?.podIP ?? '' },
  mechanisms: [{ name: 'tcp', product: 'nearfield', version: 'v2.24.0' }],
});
const agentSession = (): { sessionId: string } => ({ sessionId: `agent:${target.metadata?.uid}` });

test('another pod is no agent of this one, whatever it knows of it', limit, async () => {
  const {
    AgentInfoSchema,
    ReconnectAgentRequestSchema,
    RemainRequestSchema,
    SessionInfoSchema,
    ReviewInterceptRequestSchema,
  } = wire;
  const session = agentSession();
  const review = { session, id: 'x', disposition: wire.InterceptDispositionType.ACTIVE };
  assert.equal(await callFromStranger('ArriveAsAgent', AgentInfoSchema, agent()), Code.PermissionDenied);
  assert.equal(
    await callFromStranger('ReconnectAgent', ReconnectAgentRequestSchema, { session, agent: agent() }),
    Code.PermissionDenied,
  );
  assert.equal(await callFromStranger('Remain', RemainRequestSchema, { session }), Code.PermissionDenied);
  assert.equal(await callFromStranger('WatchIntercepts', SessionInfoSchema, session), Code.PermissionDenied);
  assert.equal(await callFromStranger('WatchDial', SessionInfoSchema, session), Code.PermissionDenied);
  assert.equal(await callFromStranger('ReviewIntercept', ReviewInterceptRequestSchema, review), Code.PermissionDenied);
  assert.equal(await callFromStranger('Depart', SessionInfoSchema, session), Code.PermissionDenied);
  // The log of a manager that others have used before has their lines too.
  const lines = (await logOfManager())
    .split('\n')
    .filter((line) => line.includes('in the name of an agent') && line.includes(target.metadata?.name ?? ''));
  assert.equal(lines.length, 7, lines.join('\n'));
  await isWell();
});

async function leadsToNoAgent(client: Client<typeof wire.Manager>): Promise<void> {
  const isDenied = (error: unknown): boolean => error instanceof ConnectError && error.code === Code.PermissionDenied;
  await assert.rejects(client.arriveAsAgent(agent()), isDenied);
  await assert.rejects(client.remain({ session: agentSession() }), isDenied);
}

test('a port-forward leads to no agent’s session', limit, async () => {
  await leadsToNoAgent(await forwarded());
});

test('nor does the API server’s proxy, which brings others from its own address', limit, async () => {
  const { signal } = new AbortController();
  await leadsToNoAgent(await forwarded(() => kube.connectToPod({ ...podOfManager(), upgrade: http2Upgrade, signal })));
});

test('another pod that says it is the API server’s proxy is nobody', limit, async () => {
  const asProxy = `
    const headers = { connection: 'Upgrade', upgrade: '${http2Upgrade.protocol}' };
    const ask = require('http').request({ host: '${manager.address}', port: 8081, path: '${http2Upgrade.path}', headers });
    ask.on('upgrade', (_, socket, head) => {
      // The manager's first words of HTTP/2 may come in the same segment.
      socket.unshift(head);
      begin(require('http2').connect('http://manager', { createConnection: () => socket }));
    });
    ask.end();`;
  const remain = { session: agentSession() };
  assert.equal(await callFromStranger('Remain', wire.RemainRequestSchema, remain, asProxy), Code.PermissionDenied);
});

test('a session that was guessed opens nothing', limit, async () => {
  const client = await forwarded();
  const { sessionId } = await client.arriveAsClient(developer);
  const session = { sessionId: '00000000-0000-4000-8000-000000000000' };
  const refused = [
    client.remain({ session }),
    client.createIntercept({ session, interceptSpec: { name: 'x' } }),
    client.removeIntercept({ session, name: 'x' }),
    client.getIntercept({ session, name: `${sessionId}:x` }),
    client.ensureAgent({ session, name: 'target' }),
    client.getAgentConfig({ session, name: 'target' }),
    client.uninstallAgents({ sessionInfo: session }),
    client.lookupDNS({ session, name: 'target.', type: 1 }),
    client.reviewIntercept({ session, id: 'x' }),
    client.watchDial(session)[Symbol.asyncIterator]().next(),
    client.watchAgents(session)[Symbol.asyncIterator]().next(),
    client.watchAgentPods(session)[Symbol.asyncIterator]().next(),
    client.watchIntercepts(session)[Symbol.asyncIterator]().next(),
    client.watchClusterInfo(session)[Symbol.asyncIterator]().next(),
    client.watchWorkloads({ sessionInfo: session })[Symbol.asyncIterator]().next(),
  ].map((call) => assert.rejects(call, (error) => error instanceof ConnectError && error.code === Code.NotFound));
  await Promise.all(refused);
  await client.depart({ sessionId });
});

test('no pod but one beside the manager can have all agents removed', limit, async () => {
  const script = `
    const request = require('https').request({ method: 'DELETE', host: '${manager.address}', port: 8443, path: '/uninstall', rejectUnauthorized: false }, (answer) => { console.log(answer.statusCode); process.exit(0); });
    request.on('error', (error) => { console.log(error.code); process.exit(0); });
    request.end();`;
  assert.equal((await fromStranger(script)).trim(), '403');
  assert.match(await logOfManager(), /a request to remove all agents was refused/);
  await isWell();
});
