import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import { serveHealth } from '../../../src/agent/health.ts';
import { Scope } from '../../../src/base/index.ts';
import { HandClock } from '../manager/hand-clock.ts';

const limit = { timeout: 10_000 };

async function withHealth(work: (clock: HandClock, health: Awaited<ReturnType<typeof serveHealth>>) => Promise<void>) {
  const scope = new Scope((error) => assert.fail(String(error)));
  const clock = new HandClock();
  try {
    await work(clock, await serveHealth(scope, clock, 0));
  } finally {
    await scope.dispose();
  }
}

/** Resolves once somebody waits for an answer. */
async function asked(clock: HandClock, count = 1): Promise<void> {
  while (clock.timers < count) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function probe(port: number): { readonly status: Promise<number | undefined>; hangUp(): void } {
  const sent = request({ host: '127.0.0.1', port, path: '/ready', timeout: 5_000 });
  const status = new Promise<number | undefined>((resolve) => {
    sent.on('response', (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    sent.on('error', () => resolve(undefined));
  });
  sent.end();
  return { status, hangUp: () => sent.destroy() };
}

test('a probe that comes too early is answered at the moment the agent is ready', limit, () =>
  withHealth(async (clock, health) => {
    const early = [probe(health.port), probe(health.port)];
    await asked(clock, 2);
    health.setReady();
    assert.deepEqual(await Promise.all(early.map(({ status }) => status)), [200, 200]);
    assert.equal(await probe(health.port).status, 200);
    assert.equal(clock.timers, 0);
  }),
);

test('an agent that does not get ready says so before the kubelet gives up', limit, () =>
  withHealth(async (clock, health) => {
    const { status } = probe(health.port);
    await asked(clock);
    clock.advance(2_500);
    assert.equal(await status, 503);
    health.setReady();
    assert.equal(await probe(health.port).status, 200);
  }),
);

test('a probe that hangs up is not waited for', limit, () =>
  withHealth(async (clock, health) => {
    const { hangUp } = probe(health.port);
    await asked(clock);
    hangUp();
    while (clock.timers > 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    health.setReady();
  }),
);
