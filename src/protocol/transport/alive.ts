import type { ClientHttp2Session, ServerHttp2Session } from 'node:http2';
import type { Clock, Disposable } from '../../base/index.ts';

const pingPeriodMs = 10_000;
const pingTimeoutMs = 5_000;
const pingNowTimeoutMs = 3_000;
/** How often within that time it is looked for bytes. */
const looks = 2;
/** A PING that waits behind an upload on a slow line: as long as so much of it leaves between two looks, it is on its way. */
const movedBytes = 16 * 1024;
/** What leaves may only fill the buffers in front of somebody who is gone: it counts for half a minute at most. */
const maxLooksForMoved = 12;

interface Bytes {
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** A connection that may die without a word. */
export interface Living {
  readonly isOver: boolean;
  /** So far. */
  bytes(): Bytes;
  /** Asks the far end for a sign of life. */
  ask(answered: () => void): void;
  giveUp(): void;
  onOver(listener: () => void): void;
}

/** `ask` in place of a PING. */
export function livingSession(
  session: ClientHttp2Session | ServerHttp2Session,
  ask: Living['ask'] = (answered) => void session.ping(answered),
): Living {
  return {
    get isOver() {
      return session.destroyed;
    },
    bytes: () => {
      const { bytesRead = 0, bytesWritten = 0 } = session.destroyed ? {} : session.socket;
      return { bytesRead, bytesWritten };
    },
    ask,
    giveUp: () => session.destroy(),
    onOver: (listener) => void session.once('close', listener),
  };
}

/** One question out of turn, with little time to answer: after sleep, who is not there at once is gone. */
export function askNow(living: Living, clock: Clock): void {
  if (!living.isOver) {
    const limit = clock.after(pingNowTimeoutMs, () => living.giveUp());
    living.ask(() => void limit.dispose());
  }
}

/**
 * Gives the connection up when a question stays unanswered and nothing else comes either: a dead far side is otherwise never
 * noticed. On a slow line the answer waits behind megabytes of other bytes, and a loop that was held up finds it only
 * after its timers: so bytes count as life, and one look that finds none is followed by another. An upload gets few bytes
 * back, so what leaves counts too, for a while.
 */
export function keepAlive(living: Living, clock: Clock): Disposable {
  let waiting: Disposable | undefined;
  const wait = (before: Bytes, looksLeft: number, movesLeft: number): void => {
    waiting = clock.after(pingTimeoutMs / looks, () => {
      const now = living.bytes();
      if (now.bytesRead !== before.bytesRead) {
        wait(now, looks - 1, maxLooksForMoved);
      } else if (now.bytesWritten - before.bytesWritten >= movedBytes && movesLeft > 0) {
        wait(now, looks - 1, movesLeft - 1);
      } else if (looksLeft > 0) {
        wait(now, looksLeft - 1, movesLeft);
      } else {
        living.giveUp();
      }
    });
  };
  const timer = clock.every(pingPeriodMs, () => {
    if (waiting || living.isOver) {
      return;
    }
    wait(living.bytes(), looks - 1, maxLooksForMoved);
    living.ask(() => {
      void waiting?.dispose();
      waiting = undefined;
    });
  });
  const stop = (): void => {
    void timer.dispose();
    void waiting?.dispose();
  };
  living.onOver(stop);
  return { dispose: stop };
}
