import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { parseSidecarConfig } from '../../../src/agent/agent.ts';
import { containerEnvironment } from '../../../src/agent/environment.ts';
import { decide } from '../../../src/agent/port/diversion.ts';
import { isReason } from '../../../src/base/index.ts';
import { wire } from '../../../src/protocol/index.ts';
import { interceptSpec } from '../manager/messages.ts';
import { sidecarConfig } from './sidecar.ts';

const { ACTIVE, WAITING, AGENT_ERROR, NO_AGENT } = wire.InterceptDispositionType;
const intercept = (id: string, disposition: wire.InterceptDispositionType, spec = {}): wire.InterceptInfo =>
  create(wire.InterceptInfoSchema, {
    id,
    disposition,
    spec: interceptSpec(spec),
    clientSession: { sessionId: id.split(':')[0] ?? '' },
  });

test('an active intercept diverts its port to its client', () => {
  const spec = { targetPort: 3000, dialTimeout: 3_000_000_000n, roundtripLatency: 500_000_000n };
  const { plans, reviews } = decide(sidecarConfig(), [intercept('ann:web', ACTIVE, spec)]);
  assert.deepEqual(plans.get('9900/TCP')?.whole, {
    interceptId: 'ann:web',
    clientSession: 'ann',
    targetHost: '127.0.0.1',
    targetPort: 3000,
    dialTimeoutMs: 3_000,
    roundtripLatencyMs: 500,
  });
  assert.deepEqual(reviews, []);
});

test('a waiting intercept is accepted for the container whose port it wants', () => {
  const { plans, reviews } = decide(sidecarConfig(), [intercept('ann:web', WAITING)]);
  assert.equal(plans.size, 0, 'nothing is diverted before the manager says active');
  assert.deepEqual(reviews, [
    {
      id: 'ann:web',
      containerName: 'server',
      conflict: undefined,
      fault: undefined,
      description: 'all TCP connections',
    },
  ]);
});

test('who holds a port keeps it, and the next one hears who that is', () => {
  const { plans, reviews } = decide(sidecarConfig(), [intercept('ann:web', WAITING), intercept('bob:web', ACTIVE)]);
  assert.equal(plans.get('9900/TCP')?.whole?.interceptId, 'bob:web');
  assert.equal(reviews[0]?.conflict, 'bob:web');
});

test('of two that wait the first is accepted, by every agent of the workload alike', () => {
  const { reviews } = decide(sidecarConfig(), [intercept('ann:web', WAITING), intercept('bob:web', WAITING)]);
  assert.deepEqual(
    reviews.map(({ conflict }) => conflict),
    [undefined, 'ann:web'],
  );
});

for (const [what, snapshot] of [
  ['no intercept', []],
  ['an intercept of another port', [intercept('ann:web', ACTIVE, { containerPort: 1 })]],
  ['an intercept by another protocol', [intercept('ann:web', ACTIVE, { protocol: 'UDP' })]],
  ['an intercept that was refused', [intercept('ann:web', AGENT_ERROR)]],
  ['an intercept without an agent', [intercept('ann:web', NO_AGENT)]],
] as const) {
  test(`${what} leaves the port passing through`, () => {
    const { plans, reviews } = decide(sidecarConfig(), snapshot);
    assert.deepEqual([plans.size, reviews.length], [0, 0]);
  });
}

test('the environment of a container is the pod’s and its own, never another’s or the agent’s', () => {
  const environment = {
    PATH: '/bin',
    HOME: '/',
    AGENT_CONFIG: '{}',
    _TEL_AGENT_NAME: 'pod',
    KUBERNETES_SERVICE_HOST: '10.96.0.1',
    _TEL_APP_A_GREETING: 'hello',
    _TEL_APP_A_HOME: '/home/app',
    _TEL_APP_B_SECRET: 'no',
    _TEL_APP_AA_OTHER: 'no',
  };
  const [container] = sidecarConfig().containers;
  assert.ok(container);
  assert.deepEqual(containerEnvironment(container, environment), {
    KUBERNETES_SERVICE_HOST: '10.96.0.1',
    GREETING: 'hello',
    HOME: '/home/app',
    TELEPRESENCE_CONTAINER: 'server',
  });
});

test('the configuration is read from JSON, and what is wrong with it is an error', () => {
  assert.equal(parseSidecarConfig(JSON.stringify(sidecarConfig())).containers[0]?.intercepts[0]?.agentPort, 9900);
  for (const text of [undefined, '', 'no', '{}', '{"containers":[{"intercepts":[{"agentPort":99999}]}]}']) {
    assert.throws(
      () => parseSidecarConfig(text),
      (error) => isReason(error, 'agent.bad-configuration'),
    );
  }
});
