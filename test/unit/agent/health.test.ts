import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import { serveHealth } from '../../../src/agent/health.ts';
import { Scope } from '../../../src/base/index.ts';

function probe(port: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path: '/ready', timeout: 5_000, agent: false });
    sent.on('response', (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    sent.on('error', reject);
    sent.end();
  });
}

test('a probe is answered at once: no until the agent is ready, and yes from then on', {
  timeout: 10_000,
}, async () => {
  const scope = new Scope((error) => assert.fail(String(error)));
  try {
    const health = await serveHealth(scope, 0);
    assert.equal(await probe(health.port), 503);
    health.setReady();
    assert.deepEqual([await probe(health.port), await probe(health.port)], [200, 200]);
  } finally {
    await scope.dispose();
  }
});
