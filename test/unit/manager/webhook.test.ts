import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '../../../src/base/index.ts';
import type { PatchOperation } from '../../../src/manager/injector/patch.ts';
import { reviewAnswer } from '../../../src/manager/injector/webhook.ts';
import { podOf } from './fake-cluster.ts';

interface Answer {
  readonly apiVersion: string;
  readonly kind: string;
  readonly response: { uid: string; allowed: boolean; patchType?: string; patch?: string };
}

const operation: PatchOperation = { op: 'add', path: '/metadata/labels/x', value: 'y' };
const ask = async (request: object | undefined, patch: () => PatchOperation[]): Promise<Answer> =>
  (await reviewAnswer({ ...(request ? { request } : {}) } as never, {
    patch: async () => patch(),
    log: silentLogger,
  })) as Answer;
const creation = { uid: 'u1', operation: 'CREATE', namespace: 'shop', object: podOf('web', '1') };

test('a patch travels as a base64 JSON patch under the uid of the question', async () => {
  const { apiVersion, kind, response } = await ask(creation, () => [operation]);
  assert.deepEqual([apiVersion, kind], ['admission.k8s.io/v1', 'AdmissionReview']);
  assert.deepEqual([response.uid, response.allowed, response.patchType], ['u1', true, 'JSONPatch']);
  assert.deepEqual(JSON.parse(Buffer.from(response.patch ?? '', 'base64').toString()), [operation]);
});

test('a pod that needs no agent is admitted as it is', async () => {
  const { response } = await ask(creation, () => []);
  assert.deepEqual(response, { uid: 'u1', allowed: true });
});

test('a pod is admitted unchanged when its patch cannot be made', async () => {
  const { response } = await ask(creation, () => {
    throw new RangeError('broken');
  });
  assert.deepEqual(response, { uid: 'u1', allowed: true });
});

for (const request of [undefined, { ...creation, operation: 'DELETE' }, { uid: 'u1', operation: 'CREATE' }]) {
  test(`nothing is patched for ${JSON.stringify(request)?.slice(0, 40) ?? 'an empty review'}`, async () => {
    assert.equal((await ask(request, () => [operation])).response.patch, undefined);
  });
}
