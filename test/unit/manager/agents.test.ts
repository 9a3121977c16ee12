import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import type { DescMethod } from '@bufbuild/protobuf';
import {
  type Client,
  Code,
  ConnectError,
  createClient,
  createContextValues,
  type StreamRequest,
  type UnaryRequest,
} from '@connectrpc/connect';
import { createLogger, type LogLine } from '../../../src/base/index.ts';
import { AgentGate } from '../../../src/manager/identity/agents.ts';
import { PodCallers } from '../../../src/manager/identity/pods.ts';
import { Store } from '../../../src/manager/state/store.ts';
import { wire } from '../../../src/protocol/index.ts';
import { callerKey } from '../../../src/protocol/transport/index.ts';
import { deployment, FakeCluster, podOf } from './fake-cluster.ts';
import { HandClock, settled } from './hand-clock.ts';
import { knownAgentInfo as agentInfo } from './messages.ts';

// What calls a pod's agent may make, and who else may not make them in its name.
const own = '10.0.0.1';
let cluster: FakeCluster;
let store: Store;
let clock: HandClock;
let lines: LogLine[];
let gate: AgentGate;

beforeEach(() => {
  cluster = new FakeCluster(deployment(), deployment({ name: 'api' }), podOf('web', '1'));
  clock = new HandClock();
  store = new Store(clock, 'install');
  lines = [];
  const log = createLogger({ sink: (line) => void lines.push(line), wallMs: () => 0 });
  gate = new AgentGate({ store, pods: new PodCallers({ view: cluster.view, clock }), log });
});

/** A manager that would serve anything, behind the gate, for callers of this address. */
function managerFor(address: string): Client<typeof wire.Manager> {
  const serve = async (request: UnaryRequest | StreamRequest) => ({
    ...{ stream: request.stream, service: request.service, method: request.method },
    ...{ header: new Headers(), trailer: new Headers() },
    message: request.stream ? answered(request.message) : {},
  });
  const call = (stream: boolean, method: DescMethod, message: unknown): Promise<never> => {
    const contextValues = createContextValues().set(callerKey, { address });
    const request = { stream, method, service: method.parent, header: new Headers(), message, contextValues };
    return gate.interceptor(serve as never)(request as never) as Promise<never>;
  };
  return createClient(wire.Manager, {
    unary: (method, _signal, _timeoutMs, _header, input) =>
      call(false, method, { ...input, $typeName: method.input.typeName }),
    stream: (method, _signal, _timeoutMs, _header, input) => call(true, method, input),
  });
}
async function* answered(messages: AsyncIterable<unknown>): AsyncGenerator<object> {
  for await (const _ of messages) {
    yield {};
  }
}
async function waitForTimer(): Promise<void> {
  for (let turn = 0; turn < 20 && clock.timers === 0; turn++) {
    await settled();
  }
}

/** Long enough for whatever is waited for, whenever it begins. */
async function passed(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) {
    await settled();
    clock.advance(1_000);
  }
}

const isRefused = (error: unknown): boolean =>
  (error as { reason?: string }).reason === 'manager.not-its-pod' ||
  (error instanceof ConnectError && error.code === Code.PermissionDenied);

test('an agent arrives from its own pod', async () => {
  await managerFor(own).arriveAsAgent(agentInfo());
  await managerFor(own).reconnectAgent({ session: { sessionId: 'agent:uid-web-1' }, agent: agentInfo() });
});

for (const [what, address, more] of [
  ['another pod', '10.0.0.66', {}],
  ['a forwarded connection', '127.0.0.1', {}],
  ['nobody knows where', '', {}],
  ['its pod, in the name of another workload', own, { name: 'api' }],
  ['its pod, as another kind of workload', own, { kind: 'StatefulSet' }],
  ['its pod, with another pod’s address', own, { podIp: '10.0.0.66' }],
  ['its pod, as a pod of another life', own, { podUid: 'uid-web-0' }],
] as const) {
  test(`an agent from ${what} is refused, and the log says so`, async () => {
    const refused = Promise.all(
      [
        managerFor(address).arriveAsAgent(agentInfo(more)),
        managerFor(address).reconnectAgent({ session: { sessionId: 'agent:uid-web-1' }, agent: agentInfo(more) }),
      ].map((call) => assert.rejects(call, isRefused)),
    );
    await passed();
    await refused;
    assert.deepEqual(
      lines.map(({ message }) => message),
      Array(2).fill('a call in the name of an agent came from elsewhere'),
    );
  });
}

test('an agent that is quicker than the news of its pod is waited for', async () => {
  const later = podOf('web', '2');
  const info = agentInfo({ podName: later.metadata?.name ?? '', podUid: later.metadata?.uid ?? '' });
  cluster.put({ ...later, status: { phase: 'Pending' } } as never);
  const arriving = managerFor(own).arriveAsAgent(info);
  await waitForTimer();
  cluster.put(later);
  await arriving;
});

test('every call in the name of an agent is from its pod, or is not served', async () => {
  const session = { sessionId: 'agent:uid-web-1' };
  store.addAgent(session.sessionId, agentInfo());
  const calls = (manager: Client<typeof wire.Manager>) => [
    () => manager.remain({ session }),
    () => manager.depart(session),
    () => manager.reviewIntercept({ session, id: 'x', disposition: wire.InterceptDispositionType.ACTIVE }),
    () => manager.agentLookupDNSResponse({ session }),
    () => manager.watchIntercepts(session)[Symbol.asyncIterator]().next(),
    () => manager.watchDial(session)[Symbol.asyncIterator]().next(),
    () => manager.watchLookupDNS(session)[Symbol.asyncIterator]().next(),
  ];
  for (const call of calls(managerFor(own))) {
    await call();
  }
  for (const call of calls(managerFor('10.0.0.66'))) {
    await assert.rejects(call(), isRefused);
  }
  assert.equal(gate.mayTunnel({ address: own }, session.sessionId), true);
  assert.equal(gate.mayTunnel({ address: '127.0.0.1' }, session.sessionId), false);
  assert.equal(gate.mayTunnel({ address: '127.0.0.1' }, 'somebody else'), true, 'clients are not asked');
});

test('only what runs beside the manager counts as beside it', async () => {
  const pods = new PodCallers({ view: cluster.view, clock });
  assert.equal(await pods.isInNamespace(own, 'shop'), true);
  for (const [address, namespace] of [
    [own, 'ambassador'],
    ['10.0.0.66', 'shop'],
    ['', 'shop'],
  ] as const) {
    const answer = pods.isInNamespace(address, namespace);
    await passed();
    assert.equal(await answer, false);
  }
});
