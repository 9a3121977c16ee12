import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { PodWay } from '../../../src/kube/pod-way.ts';
import { HandClock } from '../manager/hand-clock.ts';

const limit = { timeout: 10_000 };
const where = { namespace: 'n', pod: 'p', port: 1, upgrade: { path: '/', protocol: 'ours' } };

function ways() {
  const clock = new HandClock();
  const asked: string[] = [];
  const proxy = Promise.withResolvers<PassThrough>();
  const forward = Promise.withResolvers<PassThrough>();
  let proxySignal: AbortSignal | undefined;
  const way = new PodWay({
    clock,
    openPodProxy: ({ signal }) => {
      asked.push('proxy');
      proxySignal = signal;
      return proxy.promise;
    },
    openPortForward: () => {
      asked.push('forward');
      return forward.promise;
    },
  });
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return { clock, asked, proxy, forward, way, turn, proxySignal: () => proxySignal };
}

const [a, b] = [() => new PassThrough(), () => new PassThrough()];

test('where the API server reaches the pod, nothing is forwarded', limit, async () => {
  const { way, proxy, asked, clock, turn } = ways();
  assert.equal(way.latest('n'), undefined);
  const opened = way.open(where);
  const duplex = a();
  proxy.resolve(duplex);
  assert.equal(await opened, duplex);
  assert.equal(way.latest('n'), 'proxy');
  clock.advance(10_000);
  await turn();
  assert.deepEqual(asked, ['proxy']);
});

test(
  'where it does not, a port is forwarded at once, and from then on in the first place for a while',
  limit,
  async () => {
    const { way, proxy, forward, asked, clock } = ways();
    const opened = way.open(where);
    proxy.reject(new Error('forbidden'));
    const duplex = b();
    forward.resolve(duplex);
    assert.equal(await opened, duplex);
    await way.open(where);
    assert.deepEqual(asked, ['proxy', 'forward', 'forward']);
    assert.equal(way.latest('n'), 'port-forward');
    clock.advance(10_000);
    await way.open(where);
    assert.deepEqual(asked, ['proxy', 'forward', 'forward', 'proxy', 'forward']);
  },
);

test('what was no way again and again is tried less and less, and every five minutes in the end', limit, async () => {
  const { way, proxy, forward, asked, clock } = ways();
  proxy.reject(new Error('forbidden'));
  forward.resolve(b());
  for (let second = 0; second < 3_600; second++) {
    await way.open(where);
    clock.advance(1_000);
  }
  const tries = asked.filter((each) => each === 'proxy').length;
  assert.ok(tries >= 12 && tries <= 18, `${tries} times in an hour`);
});

test('one namespace says nothing of another', limit, async () => {
  const { way, proxy, forward, asked } = ways();
  proxy.reject(new Error('forbidden'));
  forward.resolve(b());
  await way.open(where);
  await way.open({ ...where, namespace: 'other' });
  assert.deepEqual(asked, ['proxy', 'forward', 'proxy', 'forward']);
});

test(
  'where packets vanish, a port is forwarded beside it after half a second, and who is late is closed',
  limit,
  async () => {
    const { way, proxy, forward, asked, clock, turn, proxySignal } = ways();
    const opened = way.open(where);
    clock.advance(499);
    await turn();
    assert.deepEqual(asked, ['proxy']);
    clock.advance(1);
    await turn();
    assert.deepEqual(asked, ['proxy', 'forward']);
    const [late, first] = [a(), b()];
    forward.resolve(first);
    assert.equal(await opened, first);
    assert.equal(proxySignal()?.aborted, true);
    proxy.resolve(late);
    await turn();
    assert.equal(late.destroyed, true);
    assert.equal(first.destroyed, false);
  },
);

test('who is late and still first is taken, and the forward that comes after is closed', limit, async () => {
  const { way, proxy, forward, clock, turn } = ways();
  const opened = way.open(where);
  clock.advance(500);
  await turn();
  const [first, late] = [a(), b()];
  proxy.resolve(first);
  assert.equal(await opened, first);
  forward.resolve(late);
  await turn();
  assert.equal(late.destroyed, true);
});

test('where both fail, the error is the forward’s, and nothing is remembered', limit, async () => {
  const { way, proxy, forward, asked } = ways();
  proxy.reject(new Error('no way'));
  forward.reject(new Error('the pod is not there'));
  await assert.rejects(way.open(where), /the pod is not there/);
  await assert.rejects(way.open(where), /the pod is not there/);
  assert.deepEqual(asked, ['proxy', 'forward', 'proxy', 'forward']);
});

test('a signal ends both', limit, async () => {
  const { way, proxy, asked, turn } = ways();
  const giveUp = new AbortController();
  const opened = way.open({ ...where, signal: giveUp.signal });
  giveUp.abort();
  proxy.reject(new Error('given up'));
  await assert.rejects(opened);
  await turn();
  assert.deepEqual(asked, ['proxy']);
});
