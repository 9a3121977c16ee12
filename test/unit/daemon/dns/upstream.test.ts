import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason, silentLogger } from '../../../../src/base/index.ts';
import type { Attempt } from '../../../../src/daemon/dns/upstream/exchange.ts';
import { UpstreamResolver } from '../../../../src/daemon/dns/upstream.ts';
import { HandClock, settled } from '../../manager/hand-clock.ts';
import { question } from './support.ts';

interface Asked {
  readonly address: string;
  readonly transport: string;
  readonly attempt: Attempt;
  isGivenUp: boolean;
}

function createUpstream(...addresses: string[]) {
  const clock = new HandClock();
  const asked: Asked[] = [];
  const disposed: string[] = [];
  const ports = new Map<string, readonly number[]>();
  const upstream = new UpstreamResolver(
    { addresses, clock, log: silentLogger, sourcePorts: [1, 2, 3, 4, 5, 6, 7, 8] },
    (address, sourcePorts) => {
      ports.set(address, sourcePorts);
      const link = (transport: string) => ({
        ask(_: Buffer, attempt: Attempt) {
          const each = { address, transport, attempt, isGivenUp: false };
          asked.push(each);
          return () => {
            each.isGivenUp = true;
          };
        },
        dispose: () => undefined,
      });
      return { udp: link('udp'), tcp: link('tcp'), dispose: () => void disposed.push(address) };
    },
  );
  return { clock, asked, disposed, ports, upstream, last: () => asked.at(-1) ?? assert.fail('nothing was asked') };
}

const answer = (code = 0): Buffer => Buffer.of(0, 0, 0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0);
const message = question('intranet.office.example');

test('the first resolver is asked; while it answers, the others are not', async () => {
  const kit = createUpstream('192.0.2.1', '192.0.2.2');
  const answered = kit.upstream.forward(message, 'udp');
  kit.last().attempt.answered(answer());
  assert.deepEqual(await answered, answer());
  assert.deepEqual(
    kit.asked.map(({ address }) => address),
    ['192.0.2.1'],
  );
  assert.equal(kit.clock.timers, 0);
});

test('a resolver that is silent for a second is joined by the next, and either answer counts', async () => {
  const kit = createUpstream('192.0.2.1', '192.0.2.2');
  const answered = kit.upstream.forward(message, 'udp');
  kit.clock.advance(1_000);
  assert.deepEqual(
    kit.asked.map(({ address }) => address),
    ['192.0.2.1', '192.0.2.2'],
  );
  kit.asked[0]?.attempt.answered(answer(3));
  assert.deepEqual(await answered, answer(3));
  assert.ok(kit.asked.every(({ isGivenUp }) => isGivenUp));
});

test('the resolver that stood in is asked first for a while', async () => {
  const kit = createUpstream('192.0.2.1', '192.0.2.2');
  const answered = kit.upstream.forward(message, 'udp');
  kit.clock.advance(1_000);
  kit.last().attempt.answered(answer());
  await answered;
  void kit.upstream.forward(message, 'udp');
  assert.equal(kit.last().address, '192.0.2.2');
  kit.last().attempt.answered(answer());
  kit.clock.advance(30_000);
  void kit.upstream.forward(message, 'udp');
  assert.equal(kit.last().address, '192.0.2.1');
  kit.last().attempt.answered(answer());
});

for (const code of [2, 5]) {
  test(`a resolver that answers ${code} is followed by the next at once; if none does better, that is the answer`, async () => {
    const kit = createUpstream('192.0.2.1', '192.0.2.2');
    const better = kit.upstream.forward(message, 'udp');
    kit.last().attempt.answered(answer(code));
    kit.last().attempt.answered(answer());
    assert.deepEqual(await better, answer());

    const none = kit.upstream.forward(message, 'udp');
    kit.last().attempt.answered(answer(code));
    kit.last().attempt.answered(answer(2));
    assert.deepEqual(await none, answer(code));
  });
}

test('where nobody listens there is nothing to wait for', async () => {
  const kit = createUpstream('192.0.2.1', '192.0.2.2');
  const failed = kit.upstream.forward(message, 'udp');
  kit.last().attempt.failed(new RangeError('refused'));
  kit.last().attempt.failed(new RangeError('refused'));
  await assert.rejects(failed, /refused/);
  assert.equal(kit.asked.length, 2);
  assert.equal(kit.clock.timers, 0);
});

test('a lost datagram is sent again; nothing is waited for longer than four seconds', async () => {
  const kit = createUpstream('192.0.2.1');
  const failed = assert.rejects(kit.upstream.forward(message, 'udp'), (error) => isReason(error, 'base.timeout'));
  kit.clock.advance(3_999);
  assert.equal(kit.asked.length, 4);
  kit.clock.advance(1);
  await failed;
  assert.equal(kit.clock.timers, 0);
});

test('over TCP nothing is lost, so nothing is asked twice', async () => {
  const kit = createUpstream('192.0.2.1');
  const failed = assert.rejects(kit.upstream.forward(message, 'tcp'), (error) => isReason(error, 'base.timeout'));
  kit.clock.advance(4_000);
  await failed;
  assert.deepEqual(
    kit.asked.map(({ transport }) => transport),
    ['tcp'],
  );
});

test('without a resolver the question fails at once', async () => {
  const kit = createUpstream();
  await assert.rejects(kit.upstream.forward(message, 'udp'), (error) => isReason(error, 'daemon.upstream-failed'));
});

test('two thousand questions may wait, and no more', async () => {
  const kit = createUpstream('192.0.2.1');
  const all = Array.from({ length: 2_000 }, () => kit.upstream.forward(message, 'udp').catch(() => 'ended'));
  await assert.rejects(kit.upstream.forward(message, 'udp'), (error) => isReason(error, 'daemon.upstream-failed'));
  kit.upstream.dispose();
  assert.deepEqual(new Set(await Promise.all(all)), new Set(['ended']));
  assert.equal(kit.clock.timers, 0);
});

test('the resolvers of a machine may change; the same ones again change nothing', async () => {
  const kit = createUpstream('192.0.2.1', '192.0.2.2');
  kit.upstream.setAddresses(['192.0.2.1', '192.0.2.2']);
  assert.deepEqual(kit.disposed, []);
  kit.upstream.setAddresses(['192.0.2.3']);
  assert.deepEqual(kit.disposed, ['192.0.2.1', '192.0.2.2']);
  void kit.upstream.forward(message, 'udp').catch(() => undefined);
  await settled();
  assert.equal(kit.last().address, '192.0.2.3');
});

test('each resolver has source ports of its own', () => {
  const { ports } = createUpstream('192.0.2.1', '192.0.2.2', '192.0.2.3');
  assert.deepEqual(
    [...ports.values()],
    [
      [1, 4, 7],
      [2, 5, 8],
      [3, 6],
    ],
  );
});
