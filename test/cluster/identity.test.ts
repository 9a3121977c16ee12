import assert from 'node:assert/strict';
import { createSign, randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { TLSSocket } from 'node:tls';
import { Code, ConnectError } from '@connectrpc/connect';
import { isReason, parseIp, silentLogger, systemClock, toError } from '../../src/base/index.ts';
import { ConnectorCore } from '../../src/connector/core.ts';
import { loadKube } from '../../src/kube/index.ts';
import { serializeStreamInfo, tunnelCode, wireVersion } from '../../src/protocol/index.ts';
import { http2Upgrade, openHttp2 } from '../../src/protocol/transport/index.ts';
import { certificateOf, getFromPod, kubeconfigOf, openPeer, type Peer } from '../support/users.ts';
import { type Cluster, openCluster } from './cluster.ts';
import { repositoryRoot } from './paths.ts';
import { waitFor } from './shell.ts';

// People with different rights at a traffic-manager that wants to know who they are, and an owner with wishes.
const limit = { timeout: 300_000 };
const managerNamespace = 'nearfield-identity';
const namespace = 'identity';
let cluster: Cluster;
let folder: string;
let server: Server;
let localPort: number;
const cores: ConnectorCore[] = [];
const peers: Peer[] = [];
let ann: string;
let bob: string;
let carol: string;

const ownerWishes = (intercept: object = {}): object => ({
  namespaces: [namespace],
  requireToken: true,
  logLevel: 'info',
  intercept,
  client: { dns: { includeSuffixes: ['.lan'] }, routing: { alsoProxySubnets: ['10.77.0.0/16'] } },
  clientRbac: { create: true, subjects: [{ kind: 'ServiceAccount', name: 'ann', namespace }] },
});

const newCore = (): ConnectorCore => {
  const core = new ConnectorCore({ clock: systemClock, log: silentLogger });
  cores.push(core);
  return core;
};

/** As an owner does: what differs is applied. */
const install = (intercept: object = {}): Promise<void> =>
  newCore().install({ kubeconfig: cluster.kubeconfig, managerNamespace, options: ownerWishes(intercept) });

const connect = async (kubeconfig: string, more: { serviceAccount?: string } = {}): Promise<ConnectorCore> => {
  const core = newCore();
  await core.connect({ kubeconfig, namespace, managerNamespace, ...more });
  return core;
};

const tokenOf = async (name: string, ...flags: string[]): Promise<string> =>
  (await cluster.kubectl('-n', namespace, 'create', 'token', name, ...flags)).trim();

const manager = { namespace: managerNamespace, selector: 'app=traffic-manager', port: 8081 };
const peer = async (token?: string): Promise<Peer> => {
  const opened = await openPeer(cluster.kubeconfig, manager, token);
  peers.push(opened);
  return opened;
};
const clientInfo = { name: 'x@y', namespace, installId: 'i', product: 'telepresence', version: wireVersion };

before(async () => {
  cluster = await openCluster();
  folder = await mkdtemp(join(tmpdir(), 'nearfield-identity-'));
  await cluster.kubectl('apply', '-f', join(repositoryRoot, 'test/cluster/manifests/identity.yaml'));
  await cluster.kubectl('-n', namespace, 'rollout', 'status', 'deploy/web', '--timeout=90s');
  ann = await kubeconfigOf(cluster.kubeconfig, folder, 'ann', { token: await tokenOf('ann') });
  bob = await kubeconfigOf(cluster.kubeconfig, folder, 'bob', { token: await tokenOf('bob') });
  const certificate = await certificateOf(cluster.kubeconfig, folder, 'carol');
  carol = await kubeconfigOf(cluster.kubeconfig, folder, 'carol', certificate);
  server = createServer((_, response) => response.end('laptop'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  localPort = (server.address() as AddressInfo).port;
  // Another traffic-manager for the whole cluster would not let it in.
  await newCore().uninstall({ kubeconfig: cluster.kubeconfig, evenWithAgents: true });
  await install();
}, limit);

/** What a test that failed has left is in nobody's way. */
afterEach(async () => {
  for (const each of peers.splice(0)) {
    each.close();
  }
  for (const core of cores.splice(0)) {
    await core.dispose();
  }
}, limit);

after(async () => {
  server?.close();
  const core = new ConnectorCore({ clock: systemClock, log: silentLogger });
  await core
    .uninstall({ kubeconfig: cluster.kubeconfig, managerNamespace, options: ownerWishes(), evenWithAgents: true })
    .catch(() => undefined);
  await core.dispose();
  await cluster.kubectl('delete', 'namespace', namespace, managerNamespace, '--wait=false').catch(() => undefined);
  await rm(folder, { recursive: true, force: true });
}, limit);

const web = (core: ConnectorCore, more: object = {}) =>
  core.attach({ workload: 'deployment/web', ports: [{ remote: 'http', local: localPort }], ...more });

const call = (headers: object = {}): Promise<string> => {
  const options = `{ headers: ${JSON.stringify(headers)}, signal: AbortSignal.timeout(5000) }`;
  const script = `fetch('http://web.${namespace}/x', ${options}).then((r) => r.text()).then((t) => console.log(t.trim()))`;
  return cluster.kubectl('-n', 'service-b-ns', 'exec', 'deploy/caller', '--', 'node', '-e', script).catch(String);
};
const answeredBy = (who: 'pod' | 'laptop', limitMs = 120_000, headers = {}): Promise<true> =>
  waitFor(`an answer of the ${who}`, limitMs, async () => ((await call(headers)).startsWith(who) ? true : undefined));

const says = (text: RegExp) => (error: unknown) => {
  const { message, hint = '' } = toError(error);
  assert.match(`${message}. ${hint}`, text);
  return true;
};
const failsWith =
  (code: Code, text = /./) =>
  (error: unknown) =>
    error instanceof ConnectError && error.code === code && text.test(error.message);

test('a developer with the rights connects, gets what the owner wishes, and attaches', limit, async () => {
  const core = await connect(ann);
  assert.deepEqual(core.snapshot.settings, [
    { name: 'network.alsoProxy', value: '10.77.0.0/16', from: 'cluster' },
    { name: 'dns.includeSuffixes', value: '.lan', from: 'cluster' },
  ]);
  const { name } = await web(core);
  await answeredBy('laptop');
  await core.leave(name);
  await answeredBy('pod');
});

test('the API server’s proxy is for those whose role has it; the others come by a port-forward', limit, async () => {
  const { signal } = new AbortController();
  const pod = await cluster.kubectl('-n', managerNamespace, 'get', 'pods', '-l', 'app=traffic-manager', '-o', 'name');
  const where = { namespace: managerNamespace, pod: pod.trim().replace('pod/', ''), port: 8081, upgrade: http2Upgrade };
  for (const [kubeconfig, isProxied] of [
    [ann, true],
    [bob, false],
  ] as const) {
    const duplex = await loadKube({ kubeconfig }).connectToPod({ ...where, signal });
    assert.equal(duplex instanceof TLSSocket, isProxied);
    const session = await openHttp2(duplex, { clock: systemClock });
    session.destroy();
  }
});

test('who may connect but not attach reads why, and sees the workloads', limit, async () => {
  const core = await connect(bob);
  await assert.rejects(
    web(core),
    says(/system:serviceaccount:identity:bob may not create attachments of web in namespace identity.*Ask the owner/),
  );
  await assert.rejects(
    core.attach({ mode: 'ingest', workload: 'deployment/web' }),
    says(/may not create attachments of web/),
  );
  await waitFor('the workload', 20_000, async () =>
    core.snapshot.namespaces[0]?.workloads.some(({ name }) => name === 'web') ? true : undefined,
  );
});

test('a client certificate is told what to do; as a service account it attaches', limit, async () => {
  await assert.rejects(connect(carol), (error: unknown) => isReason(error, 'connector.token-missing'));
  await assert.rejects(connect(carol, { serviceAccount: `${namespace}/bob` }), (error: unknown) =>
    isReason(error, 'connector.token-not-issued'),
  );
  const core = await connect(carol, { serviceAccount: `${namespace}/ann` });
  await web(core);
  await answeredBy('laptop');
});

test('a stock client without a token is refused with a sentence, and so is an expired token', limit, async () => {
  const stock = await peer();
  const { authRequired } = await stock.manager.version({});
  assert.equal(authRequired, true);
  await assert.rejects(stock.manager.arriveAsClient(clientInfo), failsWith(Code.Unauthenticated, /without a token/));
  await assert.rejects(stock.manager.setLogLevel({ logLevel: 'trace' }), failsWith(Code.Unauthenticated));
  const expired = await peer(await expiredToken());
  await assert.rejects(
    expired.manager.arriveAsClient(clientInfo),
    failsWith(Code.Unauthenticated, /does not accept the token/),
  );
});

/** Signed by the cluster's own key, and over for an hour. */
async function expiredToken(): Promise<string> {
  const key = await readFile(join(dirname(cluster.kubeconfig), 'pki/sa.key'), 'utf8');
  const uid = await cluster.kubectl('-n', namespace, 'get', 'serviceaccount', 'ann', '-o', 'jsonpath={.metadata.uid}');
  const [head = '', payload = ''] = (await tokenOf('ann')).split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object;
  const now = Math.floor(Date.now() / 1_000);
  const over = { ...claims, iat: now - 7_200, nbf: now - 7_200, exp: now - 3_600 };
  assert.ok(JSON.stringify(claims).includes(uid));
  const signed = `${head}.${Buffer.from(JSON.stringify(over)).toString('base64url')}`;
  return `${signed}.${createSign('RSA-SHA256').update(signed).sign(key, 'base64url')}`;
}

test('a session is nobody else’s: neither a forged id nor another’s opens anything', limit, async () => {
  const core = await connect(ann);
  await web(core);
  const annsPeer = await peer(await tokenOf('ann'));
  const { sessionId } = await annsPeer.manager.arriveAsClient(clientInfo);
  const bobsToken = await tokenOf('bob');
  const bobs = await peer(bobsToken);
  for (const other of [bobs, await peer()]) {
    await assert.rejects(other.manager.remain({ session: { sessionId } }), (error: unknown) =>
      [Code.PermissionDenied, Code.Unauthenticated].includes((error as ConnectError).code),
    );
  }
  const forged = { sessionId: randomUUID() };
  await assert.rejects(bobs.manager.remain({ session: forged }), failsWith(Code.NotFound));
  const reached: Record<string, string> = {};
  for (const [who, opened, id] of [
    ['ann', annsPeer, sessionId],
    ['bob with ann’s', bobs, sessionId],
    ['a forged one', bobs, forged.sessionId],
  ] as const) {
    reached[who] = await dial(opened, 'manager', id);
  }
  assert.deepEqual(reached, { ann: 'ok', 'bob with ann’s': 'prohibited', 'a forged one': 'prohibited' });
});

/** Opens a tunnel to the service of the sample; answers what became of it. */
async function dial(opened: Peer, service: 'manager' | 'agent', sessionId: string): Promise<string> {
  const address = await cluster.kubectl('-n', namespace, 'get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}');
  const destination = parseIp(address);
  const source = parseIp('10.1.1.1');
  assert.ok(destination && source);
  const id = { protocol: 'tcp', source, sourcePort: 4711, destination, destinationPort: 80 } as const;
  const stream = opened.tunnel(service);
  stream.send(
    tunnelCode.streamInfo,
    serializeStreamInfo({ id, sessionId, dialTimeoutMs: 5_000, roundtripLatencyMs: 1 }),
  );
  return new Promise((resolve) => {
    stream.start({
      onControl: (code) => {
        if (code === tunnelCode.dialOk) {
          resolve('ok');
          stream.reset();
        }
      },
      onData: () => undefined,
      // A call is over when both ends say so.
      onEnd: () => stream.endSend(),
      onDrain: () => undefined,
      onClose: (error) => resolve(stream.result ?? error?.code ?? 'closed'),
    });
  });
}

test('an agent takes streams of those alone who may attach to its workload', limit, async () => {
  const core = await connect(ann);
  await web(core);
  const pods = await cluster.kubectl('-n', namespace, 'get', 'pods', '-l', 'app=web', '-o', 'json');
  const [pod] = (JSON.parse(pods) as { items: { metadata: { uid: string; name: string } }[] }).items;
  assert.ok(pod);
  const logs = await cluster.kubectl('-n', namespace, 'logs', pod.metadata.name, '-c', 'traffic-agent');
  const port = Number(/"apiPort":(\d+)/.exec(logs)?.[1]);
  const agent = await openPeer(cluster.kubeconfig, { namespace, selector: 'app=web', port });
  peers.push(agent);
  const annsId = (await (await peer(await tokenOf('ann'))).manager.arriveAsClient(clientInfo)).sessionId;
  const bobsId = (await (await peer(await tokenOf('bob'))).manager.arriveAsClient(clientInfo)).sessionId;
  const results: string[] = [];
  for (const sessionId of [annsId, bobsId, randomUUID()]) {
    results.push(await dial(agent, 'agent', sessionId));
  }
  assert.deepEqual(results, ['ok', 'permission_denied', 'permission_denied']);
  await assert.rejects(
    agent.agent.watchDial({ sessionId: bobsId })[Symbol.asyncIterator]().next(),
    failsWith(Code.PermissionDenied),
  );
  await assert.rejects(agent.carry(bobsId), { code: 'permission_denied' });
  // Its session id can be guessed from the pod's; its address cannot be had.
  const stranger = await peer();
  await assert.rejects(
    stranger.manager
      .watchIntercepts({ sessionId: `agent:${pod.metadata.uid}` })
      [Symbol.asyncIterator]()
      .next(),
    failsWith(Code.PermissionDenied, /its own pod/),
  );
});

test('the owner forbids whole ports without a restart; a filter is allowed', limit, async () => {
  const before = await cluster.kubectl('-n', managerNamespace, 'get', 'pods', '-o', 'name');
  await install({ allowGlobalIntercepts: false, allowReplace: false });
  const core = await connect(ann);
  await waitFor('the owner’s policy', 30_000, async () => {
    const made = await web(core).catch((error: unknown) => error);
    if (made instanceof Error) {
      says(/does not allow to take all requests of a port.*by a header or a path/)(made);
      return true;
    }
    await core.leave((made as { name: string }).name);
    return undefined;
  });
  await assert.rejects(core.attach({ mode: 'replace', workload: 'deployment/web' }), says(/does not allow to replace/));
  const { name } = await web(core, { filters: { headers: { 'x-user': 'ann' } } });
  await answeredBy('laptop', 120_000, { 'x-user': 'ann' });
  await answeredBy('pod');
  await core.leave(name);
  assert.equal(await cluster.kubectl('-n', managerNamespace, 'get', 'pods', '-o', 'name'), before);
});

test('an attachment whose time is over ends with the reason, and the pod answers again', limit, async () => {
  await install({ maxDuration: '15s' });
  const core = await connect(ann);
  const ended = new Promise<string>((resolve) => {
    core.onSnapshotChanged(({ attachments }) => {
      const [found] = attachments;
      if (found?.state === 'error') {
        resolve(found.message ?? '');
      }
    });
  });
  await web(core);
  await answeredBy('laptop', 14_000);
  assert.match(await ended, /the owner of this cluster allows an attachment 15s, and that is over/);
  await answeredBy('pod');
  await waitFor('the end of the attachment', 30_000, async () =>
    core.snapshot.attachments.length === 0 ? true : undefined,
  );
  await install();
});

test('metrics and health are there, and name nobody', limit, async () => {
  await connect(ann);
  const at = (port: number, path: string) => getFromPod(cluster.kubeconfig, { ...manager, port }, path);
  const { text, status } = await at(9090, '/metrics');
  assert.equal(status, 200);
  const value = (name: string): number =>
    Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (\\S+)$`, 'm').exec(text)?.[1]);
  assert.ok(value('telepresence_client_count') >= 1);
  assert.ok(value('telepresence_agent_count') >= 1);
  assert.ok(value('telepresence_connect_count') >= 1);
  assert.ok(value('nearfield_calls_total{method="ArriveAsClient",code="unauthenticated"}') >= 2);
  assert.ok(value('nearfield_watch_silence_seconds{kind="Pod"}') < 120);
  assert.ok(value('process_resident_memory_bytes') > 1e7);
  assert.doesNotMatch(text, /ann|bob|@/);
  assert.equal((await at(8082, '/healthz')).status, 200);
  assert.equal((await at(8082, '/readyz')).status, 200);
  assert.equal((await at(8082, '/metrics')).status, 404);
});

test('a log level is set for a while, here and in the agents, by whoever may', limit, async () => {
  await cluster.kubectl('apply', '-f', join(repositoryRoot, 'test/cluster/manifests/log-levels.yaml'));
  const token = await tokenOf('ann');
  const owner = await peer(token);
  await waitFor('the right', 20_000, async () => {
    await owner.manager.setLogLevel({ logLevel: 'debug', duration: { seconds: 5n } });
    return true;
  });
  const agentLog = (): Promise<string> =>
    cluster.kubectl('-n', namespace, 'logs', 'deploy/web', '-c', 'traffic-agent', '--tail=200');
  await waitFor('the agent’s change', 20_000, async () =>
    /"message":"the log level changes","to":"debug"/.test(await agentLog()) ? true : undefined,
  );
  await assert.rejects(
    (await peer(await tokenOf('bob'))).manager.setLogLevel({ logLevel: 'trace' }),
    failsWith(Code.PermissionDenied, /update loglevels/),
  );
});

test('a token that is taken back ends its session, and the pod answers again', limit, async () => {
  await cluster.kubectl('-n', namespace, 'create', 'secret', 'generic', 'badge');
  const bound = await tokenOf('ann', '--bound-object-kind', 'Secret', '--bound-object-name', 'badge');
  const core = await connect(await kubeconfigOf(cluster.kubeconfig, folder, 'leaver', { token: bound }));
  await web(core);
  await answeredBy('laptop');
  await cluster.kubectl('-n', namespace, 'delete', 'secret', 'badge');
  await answeredBy('pod', 120_000);
});
