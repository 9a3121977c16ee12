import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { silentLogger } from '../../../src/base/index.ts';
import { kinds } from '../../../src/kube/index.ts';
import { createInformer, type InformerOptions, type KubeObject } from '../../../src/kube/informer.ts';
import type { Call, Requester } from '../../../src/kube/request.ts';

/** An API server that has these pages, and says what it was asked for. */
function serving(pages: readonly (readonly string[])[], options: Omit<InformerOptions, 'log'> = {}) {
  const asked: Call['query'][] = [];
  const watched = new PassThrough();
  const requester = {
    json: async ({ query }: Call) => {
      asked.push(query);
      const number = Number(query?.['continue'] ?? 0);
      const isLast = number + 1 === pages.length;
      const items = (pages[number] ?? []).map((name) => ({
        metadata: { name, resourceVersion: '7' },
        spec: { bulk: 'x' },
      }));
      return { items, metadata: { resourceVersion: '9', ...(isLast ? {} : { continue: String(number + 1) }) } };
    },
    stream: async ({ query }: Call) => {
      asked.push(query);
      return Object.assign(watched, { setTimeout: () => undefined });
    },
  } as unknown as Requester;
  const informer = createInformer<KubeObject>(requester, kinds.pod, { ...options, log: silentLogger });
  return { informer, asked, watched };
}

test('a long list is read in pages, and watched from the version of all of them', async () => {
  const { informer, asked, watched } = serving([['a', 'b'], ['c'], ['d']]);
  await informer.ready;
  assert.deepEqual([...informer.items.keys()], ['/a', '/b', '/c', '/d']);
  assert.deepEqual(
    asked.map((query) => query?.['continue']),
    [undefined, '1', '2'],
  );
  const seen = new Promise((resolve) => informer.onItemChanged(resolve));
  watched.write(`${JSON.stringify({ type: 'DELETED', object: { metadata: { name: 'b', resourceVersion: '10' } } })}\n`);
  await seen;
  assert.equal(asked.at(-1)?.['resourceVersion'], '9');
  assert.equal(informer.items.has('/b'), false);
  await informer.dispose();
  watched.destroy();
  await once(watched, 'close');
});

test('only what is kept of an object stays in memory, whichever way it came', async () => {
  const trim = ({ metadata }: KubeObject): KubeObject => (metadata ? { metadata } : {});
  const { informer, watched } = serving([['a']], { trim });
  await informer.ready;
  const seen = new Promise((resolve) => informer.onItemChanged(resolve));
  const object = { metadata: { name: 'b', resourceVersion: '10' }, spec: { bulk: 'x' } };
  watched.write(`${JSON.stringify({ type: 'ADDED', object })}\n`);
  await seen;
  assert.deepEqual(
    [...informer.items.values()].map((each) => Object.keys(each)),
    [['metadata'], ['metadata']],
  );
  await informer.dispose();
  watched.destroy();
});
