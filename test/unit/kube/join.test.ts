import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Emitter } from '../../../src/base/index.ts';
import { type Informer, type InformerChange, joinInformers, type KubeObject } from '../../../src/kube/index.ts';

class FakeInformer implements Informer<KubeObject> {
  readonly items = new Map<string, KubeObject>();
  readonly changed = new Emitter<InformerChange<KubeObject>>();
  readonly onItemChanged = this.changed.event;
  readonly heardAtMs = (): number => 0;
  readonly ready: Promise<void>;
  isDisposed = false;

  constructor(ready: Promise<void> = Promise.resolve()) {
    this.ready = ready;
  }

  fire(type: InformerChange<KubeObject>['type'], namespace: string, name: string): void {
    this.changed.fire({ type, object: { metadata: { namespace, name } } });
  }

  dispose(): void {
    this.isDisposed = true;
  }
}

test('what one namespace gains or loses, the whole does', () => {
  const parts = [new FakeInformer(), new FakeInformer()] as const;
  const joined = joinInformers(parts);
  const seen: string[] = [];
  joined.onItemChanged(({ type, object }) => seen.push(`${type} ${object.metadata?.namespace}`));
  parts[0].fire('added', 'shop', 'web');
  parts[1].fire('added', 'bank', 'web');
  parts[0].fire('deleted', 'shop', 'web');
  assert.deepEqual([...joined.items.keys()], ['bank/web']);
  assert.deepEqual(seen, ['added shop', 'added bank', 'deleted shop']);
});

test('it is ready when all are, and fails when one is forbidden', async () => {
  await joinInformers([new FakeInformer(), new FakeInformer()]).ready;
  await assert.rejects(joinInformers([new FakeInformer(), new FakeInformer(Promise.reject(Error('no')))]).ready, /no/);
});

test('none is an empty one, and disposing reaches all', async () => {
  const empty = joinInformers<KubeObject>([]);
  await empty.ready;
  assert.equal(empty.items.size, 0);
  const part = new FakeInformer();
  await joinInformers([part]).dispose();
  assert.ok(part.isDisposed);
});
