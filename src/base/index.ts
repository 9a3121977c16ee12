export { ChunkList, concatBytes, viewOf } from './bytes.ts';
export { type Clock, cancelled, sleep, systemClock, timedOut, withTimeout } from './clock.ts';

export {
  type ErrorCode,
  type ErrorFields,
  errorCodes,
  fromPlainError,
  isReason,
  NearfieldError,
  type PlainError,
  toError,
  toPlainError,
  unreachable,
} from './error.ts';

export { type Disposable, Emitter, type Event } from './event.ts';
export {
  equalBytes,
  formatIp,
  formatSubnet,
  type IpBytes,
  isLoopback,
  maskIp,
  parseIp,
  parseSubnet,
  plainAddress,
  type Subnet,
  subnetContains,
  subnetsOverlap,
  unmapIp,
} from './ip.ts';
export {
  createLogger,
  describeError,
  formatJsonLine,
  type LogFields,
  type Logger,
  type LogLevel,
  type LogLine,
  LogRing,
  type LogSink,
  logLevels,
  plainFields,
  silentLogger,
} from './log.ts';
export { type LogLevelOverride, LogLevelSwitch, parseLogLevel } from './log-level.ts';
export { giveMemoryBack, type MemoryDeps } from './memory.ts';
export { Queue } from './queue.ts';
export { malformed, needMore, type Read, readValue } from './result.ts';
export { type Backoff, backoffMs, defaultBackoff, type RetryOptions, retry } from './retry.ts';
export { reverseAddress, reverseName } from './reverse.ts';
export { Scope } from './scope.ts';
export { Seldom } from './seldom.ts';
