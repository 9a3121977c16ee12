import type { LogLevel } from '../../base/index.ts';
import type { ManagerSession } from './session.ts';

/** Of the manager, which tells its agents; it goes back by itself. Errors: those of the call. */
export async function setLogLevel(
  session: Pick<ManagerSession, 'call'>,
  logLevel: LogLevel,
  minutes: number,
): Promise<void> {
  const request = { logLevel, duration: { seconds: BigInt(minutes * 60) } };
  await session.call('changing the log level', (manager, signal) => manager.setLogLevel(request, { signal }));
}
