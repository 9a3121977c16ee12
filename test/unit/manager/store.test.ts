import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { isReason } from '../../../src/base/index.ts';
import { type ClientSession, Store } from '../../../src/manager/state/store.ts';
import { wire } from '../../../src/protocol/index.ts';
import { HandClock } from './hand-clock.ts';
import { agentInfo, clientInfo, interceptSpec } from './messages.ts';

const { ACTIVE, WAITING, NO_AGENT, AGENT_ERROR } = wire.InterceptDispositionType;
let clock: HandClock;
let store: Store;
let ann: ClientSession;

beforeEach(() => {
  clock = new HandClock();
  store = new Store(clock, 'install');
  ann = store.addClient('ann', clientInfo());
});

const intercept = (name = 'web'): wire.InterceptInfo | undefined => store.intercepts.get(`ann:${name}`);
const review = (agent: string, disposition = ACTIVE, podIp = '10.0.0.1', id = 'ann:web'): void => {
  const session = store.agents.get(agent);
  assert.ok(session);
  store.review(session, create(wire.ReviewInterceptRequestSchema, { id, disposition, podIp, environment: { A: '1' } }));
};

test('an intercept waits for its agent, and becomes active by its review', () => {
  store.addIntercept(ann, interceptSpec());
  assert.equal(intercept()?.disposition, NO_AGENT);
  store.addAgent('agent:1', agentInfo());
  assert.equal(intercept()?.disposition, WAITING);
  review('agent:1');
  const { disposition, podIp, podName, environment } = intercept() ?? {};
  assert.deepEqual(
    { disposition, podIp, podName, environment },
    { disposition: ACTIVE, podIp: '10.0.0.1', podName: 'web-abc-new', environment: { A: '1' } },
  );
});

test('the first verdict counts', () => {
  store.addAgent('agent:1', agentInfo());
  store.addAgent('agent:2', agentInfo({ podIp: '10.0.0.2' }));
  store.addIntercept(ann, interceptSpec());
  review('agent:1');
  review('agent:2', AGENT_ERROR, '10.0.0.2');
  assert.equal(intercept()?.disposition, ACTIVE);
  assert.equal(intercept()?.podIp, '10.0.0.1');
});

test('an agent has no say about another workload', () => {
  store.addAgent('agent:1', agentInfo());
  store.addAgent('agent:other', agentInfo({ name: 'other' }));
  store.addAgent('agent:elsewhere', agentInfo({ namespace: 'elsewhere' }));
  store.addIntercept(ann, interceptSpec());
  review('agent:other');
  review('agent:elsewhere');
  assert.equal(intercept()?.disposition, WAITING);
});

test('when the agent of an active intercept is lost, another one is asked, or none is left', () => {
  store.addAgent('agent:1', agentInfo());
  store.addAgent('agent:2', agentInfo({ podIp: '10.0.0.2' }));
  store.addIntercept(ann, interceptSpec());
  review('agent:1');
  store.remove('agent:2');
  assert.equal(intercept()?.disposition, ACTIVE, 'the loss of an agent that serves nothing changes nothing');
  store.addAgent('agent:2', agentInfo({ podIp: '10.0.0.2' }));
  store.remove('agent:1');
  assert.equal(intercept()?.disposition, WAITING);
  assert.equal(intercept()?.podIp, '');
  store.remove('agent:2');
  assert.equal(intercept()?.disposition, NO_AGENT);
});

test('a client that leaves takes its own intercepts with it, and no others', () => {
  const bob = store.addClient('bob', clientInfo({ name: 'bob@laptop' }));
  store.addIntercept(ann, interceptSpec());
  store.addIntercept(bob, interceptSpec({ name: 'api', agent: 'api' }));
  store.remove('ann');
  assert.deepEqual([...store.intercepts.keys()], ['bob:api']);
});

test('a second intercept of the same name is refused', () => {
  store.addIntercept(ann, interceptSpec());
  assert.throws(
    () => store.addIntercept(ann, interceptSpec()),
    (error) => isReason(error, 'manager.intercept-exists'),
  );
});

const leases: [string, () => void, () => boolean, number][] = [
  ['a client of ours', () => undefined, () => store.clients.has('ann'), 15_000],
  [
    'a stock client',
    () => void store.addClient('stock', clientInfo({ product: 'telepresence' })),
    () => store.clients.has('stock'),
    24 * 3_600_000,
  ],
  ['an agent', () => store.addAgent('agent:1', agentInfo()), () => store.agents.has('agent:1'), 70_000],
];

for (const [who, add, isThere, leaseMs] of leases) {
  test(`the lease of ${who} is ${leaseMs / 1000} s`, () => {
    add();
    clock.advance(leaseMs);
    store.expire();
    assert.equal(isThere(), true);
    clock.advance(1);
    store.expire();
    assert.equal(isThere(), false);
  });
}

test('a renewed lease counts from its renewal, and an unknown session cannot be renewed', () => {
  clock.advance(10_000);
  assert.equal(store.touch('ann'), true);
  clock.advance(10_000);
  store.expire();
  assert.equal(store.clients.has('ann'), true);
  assert.equal(store.touch('nobody'), false);
});

test('a lease that ends takes the intercepts with it, and says so once', () => {
  store.addIntercept(ann, interceptSpec());
  let changes = 0;
  store.onChanged(() => changes++);
  clock.advance(15_001);
  store.expire();
  store.expire();
  assert.equal(store.intercepts.size, 0);
  assert.equal(changes, 1);
});

test('after a restart a client restores what it held, and what exists stays as it is', () => {
  store.addAgent('agent:1', agentInfo());
  const held = store.addIntercept(ann, interceptSpec());
  review('agent:1');
  const fresh = new Store(clock, 'install');
  const back = fresh.addClient('ann', clientInfo());
  fresh.addAgent('agent:1', agentInfo());
  fresh.restoreIntercepts(back, [held]);
  assert.equal(fresh.intercepts.get('ann:web')?.disposition, WAITING);
  store.restoreIntercepts(ann, [held]);
  assert.equal(intercept()?.disposition, ACTIVE);
});

test('the sessions that a manager holds are limited: the one longest silent makes room, and none that lives', () => {
  for (let number = 0; number < 1_999; number++) {
    store.addClient(`old-${number}`, clientInfo({ product: 'telepresence' }));
  }
  assert.throws(
    () => store.addClient('one more', clientInfo()),
    (error) => isReason(error, 'manager.too-many-sessions'),
  );
  assert.ok(store.addClient('ann', clientInfo()), 'who is here comes back');
  clock.advance(61_000);
  store.touch('old-0');
  store.touch('ann');
  store.addClient('one more', clientInfo());
  assert.deepEqual([store.clients.size, store.clients.has('old-0'), store.clients.has('old-1')], [2_000, true, false]);
});

test('the intercepts of a session are limited', () => {
  for (let number = 0; number < 256; number++) {
    store.addIntercept(ann, interceptSpec({ name: `web-${number}` }));
  }
  assert.throws(
    () => store.addIntercept(ann, interceptSpec({ name: 'one more' })),
    (error) => isReason(error, 'manager.too-many-intercepts'),
  );
});
