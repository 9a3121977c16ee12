import type { Clock } from './clock.ts';
import { type Disposable, Emitter } from './event.ts';
import { type LogLevel, logLevels } from './log.ts';

/** A level that somebody has set for a while. */
export interface LogLevelOverride {
  readonly level: LogLevel;
  /** What is left of it; undefined: until it is set again. */
  readonly remainingMs: number | undefined;
}

/** How much is logged: the level that was configured, or another for a while. Loggers ask it for every line. */
export class LogLevelSwitch implements Disposable {
  readonly #clock: Clock;
  readonly #changed = new Emitter<void>();
  readonly onLevelChanged = this.#changed.event;
  #configured: LogLevel;
  #override: { readonly level: LogLevel; readonly untilMs: number | undefined } | undefined;
  #timer: Disposable | undefined;

  constructor(clock: Clock, configured: LogLevel) {
    this.#clock = clock;
    this.#configured = configured;
  }

  readonly level = (): LogLevel => this.#override?.level ?? this.#configured;

  get configured(): LogLevel {
    return this.#configured;
  }

  get override(): LogLevelOverride | undefined {
    const { level, untilMs } = this.#override ?? {};
    if (!level) {
      return undefined;
    }
    return { level, remainingMs: untilMs === undefined ? undefined : Math.max(0, untilMs - this.#clock.nowMs()) };
  }

  configure(level: LogLevel): void {
    this.#configured = level;
  }

  /** Without a duration it stays until the next call; the configured level ends what was set. */
  set(level: LogLevel, durationMs?: number): void {
    void this.#timer?.dispose();
    this.#timer = undefined;
    if (level === this.#configured) {
      this.#override = undefined;
    } else {
      this.#override = { level, untilMs: durationMs && this.#clock.nowMs() + durationMs };
      this.#timer = durationMs ? this.#clock.after(durationMs, () => this.set(this.#configured)) : undefined;
    }
    this.#changed.fire();
  }

  dispose(): void {
    void this.#timer?.dispose();
    this.#changed.dispose();
  }
}

const otherNames: Readonly<Record<string, LogLevel>> = { warning: 'warn', fatal: 'error', panic: 'error' };

/** Peers have names of their own for some. Undefined for what is none. */
export function parseLogLevel(text: string): LogLevel | undefined {
  const lower = text.trim().toLowerCase();
  return otherNames[lower] ?? logLevels.find((each) => each === lower);
}
