import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import { ManagerLink } from '../../../src/agent/manager/link.ts';
import type { Review } from '../../../src/agent/port/diversion.ts';
import { parseIp, Scope, silentLogger, systemClock } from '../../../src/base/index.ts';
import { parseStreamInfo, serializeConnId, tunnelCode, wire } from '../../../src/protocol/index.ts';
import { createGrpcServer } from '../../../src/protocol/transport/index.ts';
import { agentInfo } from '../manager/messages.ts';

const limit = { timeout: 10_000 };
const { ACTIVE, AGENT_ERROR } = wire.InterceptDispositionType;
type ManagerImpl = Partial<ServiceImpl<typeof wire.Manager>>;

let scope: Scope;
beforeEach(() => {
  scope = new Scope();
});
afterEach(() => scope.dispose());

async function* forever(signal: AbortSignal): AsyncGenerator<never> {
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

/** A link to a manager that has these calls beside the ones every agent makes. */
async function link(calls: ManagerImpl, more: { readonly reviews?: readonly Review[] } = {}) {
  const dialled = Promise.withResolvers<string>();
  const streamed = Promise.withResolvers<string>();
  const server = createGrpcServer({
    clock: systemClock,
    service: 'manager',
    acceptTunnel: (stream) =>
      stream.start({
        onControl: (code, body) => {
          if (code === tunnelCode.streamInfo) {
            streamed.resolve(parseStreamInfo(body)?.sessionId ?? '');
          }
        },
        onData: () => undefined,
        onEnd: () => stream.finish(),
        onDrain: () => undefined,
        onClose: () => undefined,
      }),
    routes: (router) =>
      router.service(wire.Manager, {
        version: () => ({ name: 'test', version: 'v2.24.0' }),
        arriveAsAgent: () => ({ sessionId: 'agent:uid' }),
        depart: () => ({}),
        watchIntercepts: async function* (_request, { signal }) {
          yield {};
          yield* forever(signal);
        },
        ...calls,
      }),
  });
  const port = await server.listen(0, '127.0.0.1');
  scope.defer(() => server.close());
  const connected = Promise.withResolvers<void>();
  let isApplied = false;
  const made = scope.own(
    new ManagerLink({
      host: '127.0.0.1',
      port,
      info: agentInfo(),
      clock: systemClock,
      log: silentLogger,
      onIntercepts: () => {
        isApplied = true;
        return more.reviews ?? [];
      },
      environments: async () => ({ server: { CONTAINER: 'server' } }),
      onLogLevel: () => undefined,
      onServing: () =>
        isApplied ? connected.resolve() : connected.reject(new Error('what is attached is not applied')),
      dialFor: (stream, info) => {
        dialled.resolve(`${info.id.protocol} ${info.id.destinationPort} ${info.dialTimeoutMs}`);
        stream.endSend();
      },
      mountsOf: () => ({ mountPoint: '', mounts: {} }),
      lookup: async (name, qtype) => ({ rCode: qtype, rrs: Buffer.from(name) }),
    }),
  );
  made.start();
  await connected.promise;
  return { link: made, dialled: dialled.promise, streamed: streamed.promise };
}

test('a verdict says what is diverted, or why it is not', limit, async () => {
  const got: wire.ReviewInterceptRequest[] = [];
  const all = Promise.withResolvers<void>();
  const review = { containerName: 'server', conflict: undefined, description: 'filtered HTTP requests' };
  await link(
    {
      reviewIntercept: (request) => {
        if (got.push(request) === 3) {
          all.resolve();
        }
        return {};
      },
    },
    {
      reviews: [
        { ...review, id: 'ann:web' },
        { ...review, id: 'bob:web', conflict: 'ann:web' },
        { ...review, id: 'cat:web', fault: 'no pattern' },
      ],
    },
  );
  await all.promise;
  assert.deepEqual(
    got.map(({ id, disposition, message, mechanismArgsDesc }) => [id, disposition, message, mechanismArgsDesc]),
    [
      ['ann:web', ACTIVE, '', 'filtered HTTP requests'],
      ['bob:web', AGENT_ERROR, 'Conflicts with the currently-served intercept ann:web', ''],
      ['cat:web', AGENT_ERROR, 'no pattern', ''],
    ],
  );
  assert.deepEqual(got[0]?.environment, { CONTAINER: 'server' });
  assert.deepEqual(got[1]?.environment, {}, 'who is refused learns nothing');
});

test('the agent tells the manager the variables of its containers when it arrives', limit, async () => {
  const arrived = Promise.withResolvers<wire.AgentInfo>();
  await link({
    arriveAsAgent: (info) => {
      arrived.resolve(info);
      return { sessionId: 'agent:uid' };
    },
  });
  assert.deepEqual((await arrived.promise).containers['server']?.environment, { CONTAINER: 'server' });
});

test('a client’s session is asked for at the manager', limit, async () => {
  const { link: made } = await link({
    remain: ({ session }) => {
      if (session?.sessionId !== 'ann') {
        throw new ConnectError('session not found', Code.NotFound);
      }
      return {};
    },
  });
  assert.deepEqual([await made.isClient('ann'), await made.isClient('stranger')], [true, false]);
});

test('a manager that asks for a dial or a name gets it from inside the pod', limit, async () => {
  const answered = Promise.withResolvers<wire.DNSAgentResponse>();
  const [source, destination] = [parseIp('10.1.1.1'), parseIp('10.2.2.2')];
  assert.ok(source && destination);
  const connId = serializeConnId({ protocol: 'tcp', source, sourcePort: 1, destination, destinationPort: 80 });
  const { dialled, streamed } = await link({
    watchDial: async function* (_request, { signal }) {
      yield create(wire.DialRequestSchema, { connId, dialTimeout: 2_000_000_000n });
      yield* forever(signal);
    },
    watchLookupDNS: async function* (_request, { signal }) {
      yield { name: 'db.', type: 1 };
      yield* forever(signal);
    },
    agentLookupDNSResponse: (response) => {
      answered.resolve(response);
      return {};
    },
  });
  assert.equal(await dialled, 'tcp 80 2000');
  assert.equal(await streamed, 'agent:uid');
  const { session, request, response } = await answered.promise;
  assert.deepEqual(
    [session?.sessionId, request?.name, response?.rCode, Buffer.from(response?.rrs ?? []).toString()],
    ['agent:uid', 'db.', 1, 'db.'],
  );
});
