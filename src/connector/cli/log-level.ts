import { type LogLevel, logLevels, parseLogLevel } from '../../base/index.ts';
import { badRequest } from '../errors.ts';

export const logLevelFlags = { minutes: { type: 'string' } } as const;
export const logLevelUsage = '  nearfield loglevel LEVEL [--minutes N]\n';

/** As long as the public client has it: a level that is forgotten fills disks. */
const defaultMinutes = 30;
const maxMinutes = 24 * 60;

/** Errors: `connector.bad-request`. */
export function readLogLevel(
  level = '',
  { minutes = String(defaultMinutes) }: { readonly minutes?: string | undefined } = {},
): { readonly level: LogLevel; readonly minutes: number } {
  const read = parseLogLevel(level);
  const count = /^\d{1,4}$/.test(minutes) ? Number(minutes) : 0;
  if (!read) {
    throw badRequest(`${level.slice(0, 20) || 'nothing'} is no log level: write one of ${logLevels.join(', ')}`);
  }
  if (count < 1 || count > maxMinutes) {
    throw badRequest(`--minutes is a number from 1 to ${maxMinutes}`);
  }
  return { level: read, minutes: count };
}
