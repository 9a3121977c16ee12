import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { silentLogger } from '../../../src/base/index.ts';
import { Catalog } from '../../../src/connector/session/catalog.ts';
import type { Kube } from '../../../src/kube/index.ts';
import { wire } from '../../../src/protocol/index.ts';

const informer = { items: new Map(), ready: Promise.resolve(), onItemChanged: () => ({ dispose: () => undefined }) };
const kube = { mayI: async () => false, watch: () => informer } as unknown as Kube;
const added = (name: string, namespace: string): wire.WorkloadEvent =>
  create(wire.WorkloadEventSchema, { workload: { kind: 1, name, namespace } });

test('a workload is in its own namespace, whatever watch it came by; one that does not say is in the watch’s', async () => {
  const catalog = await Catalog.open(kube, 'shop', ['shop', 'other'], silentLogger);
  for (const namespace of ['shop', 'other']) {
    catalog.applyWorkloads(namespace, [added('web', 'shop')]);
  }
  catalog.applyWorkloads('other', [added('plain', '')]);
  assert.deepEqual(
    catalog.view().map(({ name, workloads }) => [name, workloads.map((each) => each.name)]),
    [
      ['shop', ['web']],
      ['other', ['plain']],
    ],
  );
});
