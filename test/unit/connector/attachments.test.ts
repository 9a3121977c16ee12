import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { silentLogger, systemClock } from '../../../src/base/index.ts';
import type { AttachRequest } from '../../../src/connector/contract.ts';
import { Attachments } from '../../../src/connector/intercept/attachments.ts';
import { ClusterDialer } from '../../../src/connector/outbound/dial.ts';
import type { ManagerSession } from '../../../src/connector/session/session.ts';
import { wire } from '../../../src/protocol/index.ts';
import { ScriptedManager } from '../../support/scripted-manager.ts';

const limit = { timeout: 10_000 };
const { AGENT_ERROR, ACTIVE } = wire.InterceptDispositionType;

let manager: ScriptedManager;
let session: ManagerSession;
let attachments: Attachments;
let dialer: ClusterDialer;

async function start(): Promise<void> {
  manager = await ScriptedManager.open();
  session = await manager.connect();
  dialer = new ClusterDialer({ clock: systemClock, tunnels: () => session.tunnels });
  attachments = new Attachments({ session, dialer, namespace: 'shop', clock: systemClock, log: silentLogger });
}

afterEach(async () => {
  attachments.dispose();
  dialer.dispose();
  await session.close();
  await manager.close();
});

const web = (more: Partial<AttachRequest> = {}): AttachRequest => ({
  workload: 'web',
  ports: [{ remote: 'http', local: 3000 }],
  ...more,
});

const reasonOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'accepted',
    (error: { reason?: string; message: string }) => `${error.reason} ${error.message}`,
  );

test('an attachment is prepared, created with what was found, and active', limit, async () => {
  await start();
  const made = await attachments.attach(web());
  assert.equal(manager.prepared.length, 1);
  assert.equal(manager.created[0]?.serviceUid, 'uid-web');
  assert.equal(made.state, 'active');
  assert.deepEqual(
    attachments.views.map(({ name, mode }) => `${mode} ${name}`),
    ['intercept web'],
  );
  assert.deepEqual(attachments.environment('web'), { GREETING: 'hello' });
});

test('a workload can be attached to in several ways, and each has a name', limit, async () => {
  await start();
  const made = await Promise.all([
    attachments.attach(web({ filters: { headers: { 'x-user': 'ann' } } })),
    attachments.attach(web({ mode: 'wiretap', ports: [{ remote: 'http', local: 3001 }] })),
  ]);
  assert.deepEqual(made.map(({ name }) => name).sort(), ['web', 'web-2']);
  assert.match(await reasonOf(attachments.attach(web({ name: 'web' }))), /bad-attach-request.*web exists already/);
});

test('what the manager finds wrong is said, and nothing is created', limit, async () => {
  await start();
  manager.answer = { error: 'container port 8080 is already intercepted by bob@desk, intercept web', errorCategory: 1 };
  assert.match(await reasonOf(attachments.attach(web())), /intercept-failed .*already intercepted by bob@desk/);
  assert.equal(manager.created.length, 0);
  assert.deepEqual(manager.removed, []);
});

test('what an agent refuses is taken back', limit, async () => {
  await start();
  manager.review = { disposition: AGENT_ERROR, message: 'no such port' };
  assert.match(await reasonOf(attachments.attach(web())), /intercept-failed no such port/);
  assert.deepEqual(manager.removed, ['web']);
  assert.deepEqual(attachments.views, []);
});

test('an attachment that is left while it waits ends the wait', limit, async () => {
  await start();
  manager.review = undefined;
  const waiting = reasonOf(attachments.attach(web()));
  await until(() => attachments.views.length === 1);
  assert.equal(attachments.views[0]?.state, 'waiting');
  await attachments.leave('web');
  manager.settle('none', { disposition: ACTIVE });
  assert.match(await waiting, /was left before it became active/);
});

test('an attach that is cancelled leaves nothing, whatever it waits for', limit, async () => {
  await start();
  manager.review = undefined;
  const waiting = reasonOf(attachments.attach(web(), 'first try'));
  await until(() => attachments.views.length === 1);
  attachments.cancel('first try');
  assert.match(await waiting, /base.cancelled/);
  assert.deepEqual(manager.removed, ['web']);
  assert.deepEqual(attachments.views, []);
});

test('closing the session ends the wait', limit, async () => {
  await start();
  manager.review = undefined;
  const waiting = reasonOf(attachments.attach(web()));
  await until(() => attachments.views.length === 1);
  await session.close();
  assert.match(await waiting, /base.cancelled/);
});

test('an ingest asks for an agent and creates nothing at the manager', limit, async () => {
  await start();
  manager.agents = [{ name: 'web', podIp: '10.0.0.7', containers: { server: { environment: { A: '1' } } } }];
  const made = await attachments.attach({ mode: 'ingest', workload: 'web' });
  assert.deepEqual(manager.ensured, ['shop/web']);
  assert.deepEqual([manager.prepared.length, manager.created.length], [0, 0]);
  assert.deepEqual([made.name, made.mode, made.state, made.ports], ['web/server', 'ingest', 'active', []]);
  assert.deepEqual(attachments.environment('web/server'), { A: '1' });
  await attachments.leave('web');
  assert.deepEqual(attachments.views, []);
  assert.deepEqual(manager.removed, []);
});

test('of several containers one has to be named', limit, async () => {
  await start();
  manager.agents = [{ name: 'web', containers: { server: {}, helper: { environment: { B: '2' } } } }];
  assert.match(
    await reasonOf(attachments.attach({ mode: 'ingest', workload: 'web' })),
    /several containers \(helper, server\)/,
  );
  assert.match(
    await reasonOf(attachments.attach({ mode: 'ingest', workload: 'web', container: 'x' })),
    /no container x, but helper, server/,
  );
  await attachments.attach({ mode: 'ingest', workload: 'web', container: 'helper' });
  assert.deepEqual(attachments.environment('web/helper'), { B: '2' });
});

test('an agent that does not name its containers has no environment to take', limit, async () => {
  await start();
  manager.agents = [{ name: 'web' }];
  assert.match(await reasonOf(attachments.attach({ mode: 'ingest', workload: 'web' })), /connector.ingest-failed/);
});

for (const [minor, request, what] of [
  [24, web({ filters: { headers: { a: 'b' } } }), 'filters need 2.25'],
  [22, web({ mode: 'wiretap' }), 'wiretaps need 2.23'],
  [21, web({ mode: 'replace' }), 'replacing a container need 2.22'],
  [20, { workload: 'web', mode: 'ingest' } as const, 'ingests need 2.21'],
] as const) {
  test(`another manager of 2.${minor} is not asked for what it would pass over: ${what}`, limit, async () => {
    await start();
    Object.assign(session, { version: { name: 'OSS Traffic Manager', version: `v2.${minor}.0` } });
    const reason = await reasonOf(attachments.attach(request));
    assert.match(reason, /manager-too-old-for/);
    assert.ok(reason.includes(what), reason);
    assert.equal(manager.prepared.length, 0);
  });
}

test('only ports of this machine that something is attached to may be dialled, by their protocol', limit, async () => {
  await start();
  await attachments.attach(
    web({
      ports: [
        { remote: 'http', local: 3000 },
        { remote: 'dns', local: 5353, protocol: 'UDP' },
      ],
    }),
  );
  assert.equal(attachments.isAllowed('127.0.0.1', 3000, 'TCP'), true);
  assert.equal(attachments.isAllowed('127.0.0.1', 3000, 'UDP'), false);
  assert.equal(attachments.isAllowed('127.0.0.1', 5353, 'UDP'), true);
  assert.equal(attachments.isAllowed('127.0.0.1', 22, 'TCP'), false);
  assert.equal(attachments.isAllowed('10.0.0.1', 3000, 'TCP'), false);
  await attachments.leave('web');
  assert.equal(attachments.isAllowed('127.0.0.1', 3000, 'TCP'), false);
});

test('leaving what is not there says so', limit, async () => {
  await start();
  assert.match(await reasonOf(attachments.leave('web')), /no-such-attachment/);
});

async function until(isSo: () => boolean): Promise<void> {
  for (let turn = 0; !isSo() && turn < 20_000; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(isSo());
}
