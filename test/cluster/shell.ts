import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const outputLimitBytes = 64 * 1024 * 1024;

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
  readonly input?: string;
}

/** Runs a program by an argument array and answers its standard output; a failure carries standard error. */
export async function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const child = promisify(execFile)(file, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    timeout: options.timeoutMs ?? 120_000,
    maxBuffer: outputLimitBytes,
  });
  if (options.input !== undefined) {
    child.child.stdin?.end(options.input);
  }
  return (await child).stdout;
}

/** True when the program ends with 0. */
export async function succeeds(file: string, args: readonly string[], options: RunOptions = {}): Promise<boolean> {
  return run(file, args, options).then(
    () => true,
    () => false,
  );
}

/** Asks again until `check` answers something, or says what was waited for. */
export async function waitFor<T>(
  what: string,
  limitMs: number,
  check: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  const end = performance.now() + limitMs;
  let last: unknown;
  for (;;) {
    try {
      const answer = await check();
      if (answer !== undefined) {
        return answer;
      }
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) {
      throw new Error(`${what} did not happen within ${limitMs / 1000} s`, { cause: last });
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Says what is being done and, afterwards, how long it took. */
export async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const seconds = (): string => ((performance.now() - started) / 1000).toFixed(1);
  process.stderr.write(`… ${what}\n`);
  const ticker = setInterval(() => process.stderr.write(`… ${what} (${seconds()} s)\n`), 15_000);
  try {
    const result = await work();
    process.stderr.write(`✔ ${what} (${seconds()} s)\n`);
    return result;
  } catch (error) {
    process.stderr.write(`✖ ${what} (${seconds()} s)\n`);
    throw error;
  } finally {
    clearInterval(ticker);
  }
}
