import { type Clock, cancelled, sleep } from '../../base/index.ts';
import type { DaemonProbe } from '../../protocol/index.ts';
import { daemonFailed, daemonNotStarted, elevationRefused } from '../errors.ts';
import type { Way } from './elevation.ts';
import type { Outcome, Starter } from './hidden.ts';

const pollMs = 100;
/** A person types a password. */
const personWaitMs = 120_000;
const lastStepsMs = 3_000;

/** Something that only root can do, and how it is known to be done: by the daemon, never by an exit code. */
export interface Task {
  /** Asked again and again. */
  readonly isDone: (daemon: DaemonProbe | undefined) => boolean;
  /** How long it takes where no person is asked. */
  readonly quickWaitMs: number;
}

export interface LadderDeps {
  readonly clock: Clock;
  readonly ways: readonly Way[];
  readonly start: (way: Way) => Starter;
  readonly probe: () => Promise<DaemonProbe | undefined>;
  readonly signal: AbortSignal;
}

/**
 * One way after the other, until it is done or somebody says no. Errors: `cancelled` also for a dialog that a person
 * closed; `extension.daemon-failed`, `extension.elevation-refused`, `extension.daemon-not-started`.
 */
export async function climb(deps: LadderDeps, task: Task): Promise<void> {
  for (const way of deps.ways) {
    const outcome = await tryWay(deps, way, task);
    if (outcome === 'done') {
      return;
    }
    if (deps.signal.aborted || outcome?.ending === 'cancelled') {
      throw cancelled();
    }
    if (outcome?.ending === 'failed') {
      throw daemonFailed(outcome.sentence);
    }
    if (outcome?.ending === 'refused') {
      throw elevationRefused();
    }
  }
  throw daemonNotStarted();
}

async function tryWay(
  { clock, start, probe, signal }: LadderDeps,
  way: Way,
  task: Task,
): Promise<Outcome | 'done' | undefined> {
  const starter = start(way);
  // It has only left the program behind: its good end says nothing.
  const leavesBehind = way === 'osascript' || way === 'run-as';
  let endMs = clock.nowMs() + (way === 'direct' || way === 'quiet' ? task.quickWaitMs : personWaitMs);
  let outcome: Outcome | undefined;
  void starter.ended.then((found) => {
    outcome = found;
    endMs = Math.min(endMs, clock.nowMs() + task.quickWaitMs);
  });
  try {
    while (!signal.aborted && clock.nowMs() < endMs) {
      // Looked at before: a starter that has just ended may have started it.
      const before = outcome;
      if (task.isDone(await probe())) {
        if (way === 'terminal') {
          // Closing it would end what the program still has to do.
          await Promise.race([starter.ended, sleep(clock, lastStepsMs, signal).catch(() => undefined)]);
        }
        return 'done';
      }
      if (before && !(leavesBehind && before.ending === 'ended')) {
        return before;
      }
      await sleep(clock, pollMs, signal).catch(() => undefined);
    }
    return outcome;
  } finally {
    starter.dispose();
  }
}
