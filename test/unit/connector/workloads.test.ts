import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, createRouterTransport, type ServiceImpl } from '@connectrpc/connect';
import { done } from '../../../src/connector/session/follow.ts';
import { type WorkloadEvents, watchWorkloads } from '../../../src/connector/session/workloads.ts';
import { NamespaceEventsSchema, Workloads, wire } from '../../../src/protocol/index.ts';

// Workloads of several namespaces, from a manager of ours and from others.

const limit = { timeout: 10_000 };
const deltaOf = (name: string): wire.WorkloadEventsDelta =>
  create(wire.WorkloadEventsDeltaSchema, { events: [{ type: 0, workload: { name } }] });

/** What was said, and what was asked for. */
async function watched(ours: Partial<ServiceImpl<typeof Workloads>> | undefined) {
  const asked: string[] = [];
  const transport = createRouterTransport((router) => {
    router.service(wire.Manager, {
      watchWorkloads: async function* ({ namespace }) {
        asked.push(namespace);
        yield deltaOf(`first of ${namespace}`);
        yield deltaOf(`more of ${namespace}`);
      },
    });
    if (ours) {
      router.service(Workloads, ours);
    }
  });
  const link = { manager: createClient(wire.Manager, transport), workloads: createClient(Workloads, transport) };
  const said: string[] = [];
  const onEvents = ({ namespace, events, isFirst }: WorkloadEvents): void => {
    said.push(`${namespace}${isFirst ? ' anew' : ''}: ${events.map(({ workload }) => workload?.name).join()}`);
  };
  const { signal } = new AbortController();
  const others: Promise<unknown>[] = [];
  const follow = (_what: string, work: (signal: AbortSignal) => Promise<unknown>) => void others.push(work(signal));
  const ended = await watchWorkloads(link, 's', ['a', 'b'], { signal, onEvents, follow }).catch((error) => error);
  await Promise.all(others);
  return { said: said.sort(), asked, ended };
}

test('a manager of ours is asked once', limit, async () => {
  const { said, asked } = await watched({
    watchNamespaces: async function* ({ session, namespaces }) {
      assert.equal(session?.sessionId, 's');
      for (const namespace of namespaces) {
        yield create(NamespaceEventsSchema, { namespace, isFirst: true, delta: deltaOf('web') });
      }
      yield create(NamespaceEventsSchema, { namespace: 'a', delta: deltaOf('api') });
    },
  });
  assert.deepEqual(said, ['a anew: web', 'a: api', 'b anew: web']);
  assert.deepEqual(asked, []);
});

for (const [who, ours] of [
  ['a manager of somebody else', undefined],
  ['one that forbids a namespace of them', { watchNamespaces: () => refused(Code.PermissionDenied) }],
] as const) {
  test(`${who} is asked for each namespace, and not for all of them again`, limit, async () => {
    const { said, asked, ended } = await watched(ours);
    assert.deepEqual(asked, ['a', 'b']);
    assert.deepEqual(said, ['a anew: first of a', 'a: more of a', 'b anew: first of b', 'b: more of b']);
    assert.equal(ended, done);
  });
}

test('any other failure is the caller’s to try again', limit, async () => {
  const { asked, ended } = await watched({ watchNamespaces: () => refused(Code.Unavailable) });
  assert.equal(ended.code, Code.Unavailable);
  assert.deepEqual(asked, []);
});

function refused(code: Code): never {
  throw new ConnectError('no', code);
}
