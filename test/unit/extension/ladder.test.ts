import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason } from '../../../src/base/index.ts';
import type { Way } from '../../../src/extension/daemon-launcher/elevation.ts';
import { type Outcome, startHidden } from '../../../src/extension/daemon-launcher/hidden.ts';
import { climb, type Task } from '../../../src/extension/daemon-launcher/ladder.ts';
import type { DaemonProbe } from '../../../src/protocol/index.ts';
import { HandClock, settled } from '../manager/hand-clock.ts';

const running: DaemonProbe = { version: '1.0.0', clients: 0 };
const appears: Task = { isDone: (daemon) => daemon !== undefined, quickWaitMs: 5_000 };

interface Script {
  /** What a way's starter ends with; one that is not named here goes on. */
  readonly endings?: Partial<Record<Way, Outcome['ending']>>;
  /** The way that brings the daemon up, and how long that takes. */
  readonly works?: Way;
  readonly afterMs?: number;
}

/** Climbs on a machine that behaves as told; time passes by itself. */
async function run(ways: readonly Way[], { endings = {}, works, afterMs = 0 }: Script) {
  const clock = new HandClock();
  const controller = new AbortController();
  const tried: Way[] = [];
  const closed: Way[] = [];
  let upMs = Number.POSITIVE_INFINITY;
  let result: unknown = 'pending';
  const climbing = climb(
    {
      clock,
      ways,
      signal: controller.signal,
      probe: async () => (clock.nowMs() >= upMs ? running : undefined),
      start(way) {
        tried.push(way);
        if (way === works) {
          upMs = clock.nowMs() + afterMs;
        }
        const ending = endings[way];
        return {
          ended: ending ? Promise.resolve({ ending, sentence: `${way} says so` }) : new Promise(() => undefined),
          dispose: () => void closed.push(way),
        };
      },
    },
    appears,
  ).then(
    () => 'done',
    (error: unknown) => error,
  );
  void climbing.then((found) => {
    result = found;
  });
  const turn = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms && result === 'pending'; passed += 100) {
      await settled();
      clock.advance(100);
    }
    await settled();
  };
  return { tried, closed, clock, turn, abort: () => controller.abort(), result: () => result };
}

async function outcome(ways: readonly Way[], script: Script) {
  const ladder = await run(ways, script);
  await ladder.turn(400_000);
  assert.deepEqual(ladder.closed, ladder.tried, 'each starter is closed');
  return { ...ladder, result: ladder.result() };
}

const all: readonly Way[] = ['quiet', 'pkexec', 'terminal'];

test('where no password is needed, nobody is asked', async () => {
  const { result, tried } = await outcome(all, { works: 'quiet', afterMs: 300 });
  assert.deepEqual([result, tried], ['done', ['quiet']]);
});

test('where one is needed, the dialog comes next, and a person has time', async () => {
  const { result, tried } = await outcome(all, { endings: { quiet: 'ended' }, works: 'pkexec', afterMs: 60_000 });
  assert.deepEqual([result, tried], ['done', ['quiet', 'pkexec']]);
});

test('without anybody to open the dialog, the terminal asks', async () => {
  const { result, tried } = await outcome(all, { endings: { quiet: 'ended', pkexec: 'ended' }, works: 'terminal' });
  assert.deepEqual([result, tried], ['done', all]);
});

test('a closed dialog is an answer: nothing else asks, and nothing is shown', async () => {
  const { result, tried } = await outcome(all, { endings: { quiet: 'ended', pkexec: 'cancelled' } });
  assert.ok(isReason(result, 'base.cancelled'));
  assert.deepEqual(tried, ['quiet', 'pkexec']);
});

test('a refusal and a sentence of the daemon are said once', async () => {
  const refused = await outcome(all, { endings: { quiet: 'ended', pkexec: 'refused' } });
  assert.ok(isReason(refused.result, 'extension.elevation-refused'));
  const failed = await outcome(all, { endings: { quiet: 'failed' } });
  assert.ok(isReason(failed.result, 'extension.daemon-failed'));
  assert.deepEqual(failed.tried, ['quiet']);
  assert.equal((failed.result as Error).message, 'quiet says so');
});

test('when every way was tried in vain, that is the error, and a good end is not believed', async () => {
  const { result, tried } = await outcome(all, { endings: { quiet: 'ended', pkexec: 'ended', terminal: 'ended' } });
  assert.ok(isReason(result, 'extension.daemon-not-started'));
  assert.deepEqual(tried, all);
});

test('a daemon that comes up as its starter ends is there', async () => {
  const { result } = await outcome(['quiet'], { endings: { quiet: 'ended' }, works: 'quiet' });
  assert.equal(result, 'done');
});

test('what a dialog has left behind is waited for, but not for ever', async () => {
  const late = await outcome(['osascript'], { endings: { osascript: 'ended' }, works: 'osascript', afterMs: 3_000 });
  assert.equal(late.result, 'done');
  const never = await outcome(['osascript'], { endings: { osascript: 'ended' } });
  assert.ok(isReason(never.result, 'extension.daemon-not-started'));
  assert.ok(never.clock.nowMs() < 10_000);
});

test('cancelling ends it at once, and closes what is open', async () => {
  const ladder = await run(['terminal'], {});
  await ladder.turn(1_000);
  ladder.abort();
  await ladder.turn(1_000);
  assert.ok(isReason(ladder.result(), 'base.cancelled'));
  assert.deepEqual(ladder.closed, ['terminal']);
});

test('what a program says before it ends is heard', async () => {
  const starter = startHidden('direct', ['/bin/sh', '-c', 'echo "no systemd runs here" >&2; exit 1'], '');
  assert.deepEqual(await starter.ended, { ending: 'failed', sentence: 'no systemd runs here' });
  const missing = startHidden('direct', ['/nonexistent/daemon'], '');
  assert.equal((await missing.ended).ending, 'ended');
});
