export const logLevels = ['error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof logLevels)[number];

export type LogFields = Readonly<Record<string, unknown>>;

export interface LogLine {
  readonly wallMs: number;
  readonly level: LogLevel;
  /** Dotted scope, e.g. `connector.session`. */
  readonly scope: string;
  /** A short constant sentence; what varies is in the fields. */
  readonly message: string;
  readonly fields: LogFields;
}

export type LogSink = (line: LogLine) => void;

/** Passed in, never imported as a global. Never given tokens, certificates, environment values or payload. */
export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  trace(message: string, fields?: LogFields): void;
  /** A logger with a longer scope and fields that ride on every line. */
  child(scope: string, fields?: LogFields): Logger;
}

export interface LoggerOptions {
  readonly sink: LogSink;
  readonly wallMs: () => number;
  readonly level?: () => LogLevel;
  readonly scope?: string;
  readonly fields?: LogFields;
}

export function createLogger(options: LoggerOptions): Logger {
  const { sink, wallMs, level = () => 'info', scope = '', fields: bound = {} } = options;
  const write =
    (at: LogLevel) =>
    (message: string, fields: LogFields = {}): void => {
      if (logLevels.indexOf(at) <= logLevels.indexOf(level())) {
        sink({ wallMs: wallMs(), level: at, scope, message, fields: { ...bound, ...fields } });
      }
    };
  return {
    error: write('error'),
    warn: write('warn'),
    info: write('info'),
    debug: write('debug'),
    trace: write('trace'),
    child: (name, fields = {}) =>
      createLogger({ sink, wallMs, level, scope: scope ? `${scope}.${name}` : name, fields: { ...bound, ...fields } }),
  };
}

export const silentLogger: Logger = createLogger({ sink: () => undefined, wallMs: () => 0 });

/** One JSON object per line, for the daemon's file and for standard output in the cluster. */
export function formatJsonLine(line: LogLine): string {
  const { wallMs, level, scope, message, fields } = line;
  const whole = { time: new Date(wallMs).toISOString(), level, scope, message, ...plainFields(fields) };
  return JSON.stringify(whole, (_, value: unknown) => (typeof value === 'string' ? cut(value) : value)).replace(
    // JSON escapes what is below a space. These move a terminal's cursor, turn its text round, or end a line as well.
    /[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Strangers name what is logged. */
const maxTextLength = 2_000;
const cut = (text: string): string => (text.length > maxTextLength ? `${text.slice(0, maxTextLength)}…` : text);

/** Errors become their message and cause chain: `JSON.stringify` would print `{}`. */
export function plainFields(fields: LogFields): LogFields {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, value instanceof Error ? describeError(value) : value]),
  );
}

export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at !== undefined && parts.length < 5; at = at instanceof Error ? at.cause : undefined) {
    parts.push(at instanceof Error ? at.message : String(at));
  }
  return parts.join(': ');
}

/** Keeps the last lines for diagnostics. */
export class LogRing {
  readonly #lines: LogLine[] = [];
  readonly #limit: number;

  constructor(limit = 500) {
    this.#limit = limit;
  }

  readonly sink: LogSink = (line) => {
    this.#lines.push(line);
    if (this.#lines.length > this.#limit) {
      this.#lines.shift();
    }
  };

  get lines(): readonly LogLine[] {
    return this.#lines;
  }
}
