import assert from 'node:assert/strict';
import { request } from 'node:https';
import { test } from 'node:test';
import { createLogger, type LogLine, silentLogger, systemClock } from '../../../src/base/index.ts';
import { makeCertificate } from '../../../src/manager/injector/certificate.ts';
import type { PatchOperation } from '../../../src/manager/injector/patch.ts';
import { createWebhook, parseReview, reviewAnswer } from '../../../src/manager/injector/webhook.ts';
import { podOf } from './fake-cluster.ts';
import { HandClock } from './hand-clock.ts';

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

for (const [what, text] of [
  ['no JSON', '{"request":'],
  ['nothing', 'null'],
  ['a list', '[]'],
  ['a review of nothing', '{}'],
  ['a review whose request is none', '{"request":7}'],
  ['a review without an id', '{"request":{"operation":"CREATE"}}'],
  ['an id without end', JSON.stringify({ request: { uid: 'x'.repeat(300), operation: 'CREATE' } })],
] as const) {
  test(`${what} asks for nothing`, () => {
    assert.throws(() => parseReview(text), /the review/);
  });
}

test('of a review is read what is of the right form', () => {
  const object = { spec: { containers: 7 } };
  const review = { request: { uid: 'u', operation: 'CREATE', namespace: 7, object, more: '__proto__' } };
  assert.deepEqual(parseReview(JSON.stringify(review)), { request: { uid: 'u', operation: 'CREATE', object } });
});

test('who may not remove all agents is refused, and everybody who sends nonsense is answered', async () => {
  const lines: LogLine[] = [];
  const asked: string[] = [];
  const log = createLogger({ sink: (line) => void lines.push(line), wallMs: () => 0 });
  const certificate = await makeCertificate('ambassador', systemClock);
  const port = 18_443;
  const webhook = createWebhook({
    ...{ port, certificate, log, clock: new HandClock() },
    patch: async () => [operation],
    mayUninstall: async (address) => {
      asked.push(address);
      return false;
    },
    uninstall: () => assert.fail('nobody may'),
  });
  await webhook.listen();
  try {
    const send = (method: string, path: string, body: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const sent = request({ host: '127.0.0.1', port, method, path, rejectUnauthorized: false }, (answer) => {
          answer.resume();
          resolve(answer.statusCode ?? 0);
        });
        sent.on('error', reject);
        sent.end(body);
      });
    const secret = 'a value of an environment';
    const answers = [
      await send('DELETE', '/uninstall', ''),
      await send('POST', '/traffic-agent', `{"${secret}`),
      await send('POST', '/traffic-agent', `${'['.repeat(200_000)}${']'.repeat(200_000)}`),
      await send('GET', '/traffic-agent', ''),
      await send('GET', '/../../etc/passwd', ''),
      await send('POST', '/traffic-agent', JSON.stringify({ request: creation })),
    ];
    assert.deepEqual(answers, [403, 400, 400, 405, 404, 200]);
    assert.deepEqual(asked, ['127.0.0.1']);
    assert.deepEqual(
      lines.map(({ level, message }) => `${level}: ${message}`),
      ['info: a request to remove all agents was refused', 'info: a caller was refused'],
    );
    assert.doesNotMatch(JSON.stringify(lines.map(({ fields }) => String(fields['error']))), /a value of/);
  } finally {
    webhook.close();
  }
});
