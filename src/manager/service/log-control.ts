import { create } from '@bufbuild/protobuf';
import { type Clock, Emitter, type Logger, type LogLevelSwitch, parseLogLevel } from '../../base/index.ts';
import { wire } from '../../protocol/index.ts';
import { badRequest } from '../errors.ts';
import { watchSnapshots } from '../state/watch.ts';

export interface LogControlDeps {
  readonly level: LogLevelSwitch;
  readonly clock: Clock;
  readonly log: Logger;
}

/** SetLogLevel and WatchLogLevel: the manager's own level, and what agents are told about theirs. */
export class LogControl {
  readonly #deps: LogControlDeps;
  readonly #asked = new Emitter<void>();
  #last: { readonly level: string; readonly untilMs: number | undefined; readonly count: number } | undefined;
  #count = 0;

  constructor(deps: LogControlDeps) {
    this.#deps = deps;
  }

  /** Errors: `manager.bad-request`. */
  set({ logLevel, duration }: wire.LogLevelRequest): void {
    const { level, clock, log } = this.#deps;
    const wanted = parseLogLevel(logLevel);
    if (!wanted) {
      throw badRequest(`${logLevel.slice(0, 20)} is no log level`);
    }
    const durationMs = Number(duration?.seconds ?? 0n) * 1_000 + (duration?.nanos ?? 0) / 1e6;
    if (!(durationMs >= 0)) {
      throw badRequest('the duration is below zero');
    }
    level.set(wanted, durationMs || undefined);
    log.info('the log level changes', { to: wanted, durationMs });
    this.#last = { level: wanted, untilMs: durationMs ? clock.nowMs() + durationMs : undefined, count: ++this.#count };
    this.#asked.fire();
  }

  /** What is asked of agents, and what still holds for one that has just come. They go back by themselves. */
  async *watch(signal: AbortSignal): AsyncGenerator<wire.LogLevelRequest> {
    const { clock, level } = this.#deps;
    let isFirst = true;
    for await (const last of watchSnapshots(
      this.#asked.event,
      signal,
      () => this.#last,
      (each) => String(each?.count ?? 0),
    )) {
      const leftMs = last?.untilMs === undefined ? undefined : last.untilMs - clock.nowMs();
      const isOver = leftMs !== undefined && leftMs <= 0;
      const saysNothing = isFirst && last?.level === level.configured;
      isFirst = false;
      if (last && !isOver && !saysNothing) {
        yield create(wire.LogLevelRequestSchema, {
          logLevel: last.level,
          ...(leftMs === undefined ? {} : { duration: toDuration(leftMs) }),
        });
      }
    }
  }
}

const toDuration = (milliseconds: number): { seconds: bigint; nanos: number } => ({
  seconds: BigInt(Math.floor(milliseconds / 1_000)),
  nanos: Math.round(milliseconds % 1_000) * 1e6,
});
