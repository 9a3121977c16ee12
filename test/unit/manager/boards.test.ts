import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Emitter } from '../../../src/base/index.ts';
import { WorkloadBoards } from '../../../src/manager/service/boards.ts';
import { Store } from '../../../src/manager/state/store.ts';
import type { NamespaceEvents, wire } from '../../../src/protocol/index.ts';
import { deployment, FakeCluster } from './fake-cluster.ts';
import { HandClock } from './hand-clock.ts';
import { agentInfo } from './messages.ts';

let cluster: FakeCluster;
let store: Store;
let changed: Emitter<void>;
let boards: WorkloadBoards;

beforeEach(() => {
  cluster = new FakeCluster(deployment({ name: 'api' }), deployment({ name: 'web' }));
  store = new Store(new HandClock(), 'install');
  changed = new Emitter<void>();
  boards = new WorkloadBoards({ view: cluster.view, store, onChanged: changed.event });
});

const names = { 0: 'added', 1: 'modified', 2: 'deleted' } as const;
type Reader = AsyncGenerator<wire.WorkloadEventsDelta>;
const read = (): Reader => boards.watch('shop', new AbortController().signal);
const next = async (reader: Reader): Promise<string[]> => {
  const { value } = await reader.next();
  return (value as wire.WorkloadEventsDelta).events.map(
    ({ type, workload }) => `${names[type as 0 | 1 | 2]} ${workload?.name}`,
  );
};

test('who comes later gets everything, and who was there only what is new', async () => {
  const early = read();
  assert.deepEqual(await next(early), ['added api', 'added web']);
  store.addAgent('agent:1', agentInfo());
  changed.fire();
  assert.deepEqual(await next(early), ['modified web']);
  assert.deepEqual(await next(read()), ['added api', 'added web']);
});

test('a slow reader gets what is true when it reads, whatever has come and gone meanwhile', async () => {
  const slow = read();
  await next(slow);
  for (let round = 0; round < 50; round++) {
    cluster.put(deployment({ name: 'short' }));
    changed.fire();
    cluster.remove(deployment({ name: 'short' }));
    cluster.put(deployment({ name: 'web', replicas: round }));
    changed.fire();
  }
  assert.deepEqual(await next(slow), ['modified web']);
});

test('another workload of the same name ends the one before, for whoever knew that', async () => {
  const reader = read();
  await next(reader);
  cluster.remove(deployment({ name: 'web' }));
  changed.fire();
  cluster.put(deployment({ name: 'web', replicas: 3 }));
  changed.fire();
  assert.deepEqual(await next(reader), ['deleted web', 'added web']);
  assert.deepEqual(await next(read()), ['added api', 'added web']);
});

test('a reader that slept over two lives of a name learns of their end', async () => {
  const reader = read();
  await next(reader);
  for (const step of ['remove', 'put', 'remove'] as const) {
    cluster[step](deployment({ name: 'web' }));
    changed.fire();
  }
  assert.deepEqual(await next(reader), ['deleted web']);
});

test('what changes nothing for a reader is not told, and the last reader leaves no board behind', async () => {
  const controller = new AbortController();
  const reader = boards.watch('shop', controller.signal);
  await next(reader);
  cluster.put(deployment({ name: 'web' }));
  changed.fire();
  const later = reader.next();
  controller.abort();
  assert.equal((await later).done, true);
  assert.equal(changed.listenerCount, 0);
});

test('a thousand workloads and three hundred readers cost one look a change', async () => {
  for (let number = 0; number < 1_000; number++) {
    cluster.put(deployment({ name: `app-${number}` }));
  }
  const readers = Array.from({ length: 300 }, read);
  await Promise.all(readers.map(next));
  let looks = 0;
  const view = cluster.view;
  const workloads = view.workloads.bind(view);
  view.workloads = (namespace) => {
    looks++;
    return workloads(namespace);
  };
  cluster.put(deployment({ name: 'app-7', replicas: 5 }));
  const told = readers.map(next);
  changed.fire();
  assert.ok((await Promise.all(told)).every((each) => each.join() === 'modified app-7'));
  assert.equal(looks, 1);
});

const readAll = (...namespaces: string[]) => boards.watchAll(namespaces, new AbortController().signal);
const said = async (reader: ReturnType<typeof readAll>): Promise<string> => {
  const { value } = await reader.next();
  const { namespace, isFirst, delta } = value as NamespaceEvents;
  const events = delta?.events.map(({ type, workload }) => `${names[type as 0 | 1 | 2]} ${workload?.name}`) ?? [];
  return `${namespace}${isFirst ? ' from the start' : ''}: ${events.join(', ')}`;
};

test('of several namespaces in one call each begins with everything, and goes on with what is new', async () => {
  cluster.put(deployment({ name: 'far', namespace: 'far' }));
  const reader = readAll('shop', 'far', 'empty');
  assert.deepEqual(
    [await said(reader), await said(reader), await said(reader)],
    ['shop from the start: added api, added web', 'far from the start: added far', 'empty from the start: '],
  );
  const next = said(reader);
  store.addAgent('agent:1', agentInfo());
  changed.fire();
  assert.equal(await next, 'shop: modified web');
});

test('who reads several slowly gets each once, as it is by then', async () => {
  const reader = readAll('shop', 'far');
  await said(reader);
  await said(reader);
  for (let round = 1; round < 50; round++) {
    for (const namespace of ['shop', 'far']) {
      cluster.put(deployment({ name: 'web', namespace, replicas: round }));
      changed.fire();
    }
  }
  assert.deepEqual([await said(reader), await said(reader)].sort(), ['far: added web', 'shop: modified web']);
});

test('a namespace that is named twice is told once', async () => {
  const reader = readAll('shop', 'shop', 'far');
  assert.equal(await said(reader), 'shop from the start: added api, added web');
  assert.equal(await said(reader), 'far from the start: ');
});

test('one call for all ends with its limits, also while it waits', async () => {
  const limits = new AbortController();
  const reader = boards.watchAll(['shop'], limits.signal);
  await reader.next();
  const ended = reader.next();
  limits.abort();
  assert.equal((await ended).done, true);
  assert.equal((await boards.watchAll(['shop'], limits.signal).next()).done, true);
});
