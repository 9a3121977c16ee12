import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { type Clock, Emitter, type Event, withTimeout } from '../../../base/index.ts';
import { commandFailed } from '../../errors.ts';

/** A running `nft -i`. The tables that it owns are gone when it ends, and it ends when we do. */
export interface NftSession {
  /**
   * Does one line, which is one transaction, then prints something by another: resolves when that contains `mark`.
   * Errors: `daemon.command-failed` with what nft said, `base.timeout`.
   */
  send(line: string, print: string, mark: string): Promise<void>;
  /** It ended, by itself or by `close`. Once. */
  readonly onSessionEnded: Event<void>;
  /** Resolves when it has ended. */
  close(): Promise<void>;
}

export type StartNft = () => NftSession;

const answerLimitMs = 3_000;
const closeLimitMs = 1_000;
const keepCharacters = 16_000;

export function startNft(clock: Clock): NftSession {
  const child: ChildProcessWithoutNullStreams = spawn('nft', ['-i'], {
    stdio: 'pipe',
    // A fixed search path: root must not run a program that the user's environment chose.
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
  });
  const heard = new Emitter<void>();
  const ended = new Emitter<void>();
  let isOver = false;
  let said = '';
  let errors = '';
  const end = (): void => {
    if (!isOver) {
      isOver = true;
      ended.fire();
    }
  };
  child.stdout.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-keepCharacters);
    heard.fire();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-keepCharacters);
    heard.fire();
  });
  child.stdin.on('error', () => undefined);
  child.on('error', (error) => {
    errors = error.message;
    end();
  });
  child.on('exit', end);

  /** Waits until `check` answers something; `undefined` is not yet. */
  const until = (check: () => true | Error | undefined, signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const result = check();
        if (result === true) {
          resolve();
        } else if (result) {
          reject(result);
        }
      };
      const subscriptions = [heard.event(look), ended.event(look)];
      signal.addEventListener('abort', () => subscriptions.forEach((each) => void each.dispose()), { once: true });
      look();
    });

  return {
    send: (line, print, mark) =>
      withTimeout(clock, answerLimitMs, 'nft', async (signal) => {
        said = '';
        errors = '';
        if (!isOver) {
          child.stdin.write(`${line}\n${print}\n`);
        }
        await until(() => {
          if (isOver || errors.includes('Error')) {
            return commandFailed('nft -i', errors || 'it ended');
          }
          return said.includes(mark) || undefined;
        }, signal);
      }),
    onSessionEnded: ended.event,
    async close() {
      child.stdin.end();
      child.kill('SIGTERM');
      await withTimeout(clock, closeLimitMs, 'the end of nft', (signal) =>
        until(() => isOver || undefined, signal),
      ).catch(() => child.kill('SIGKILL'));
    },
  };
}
