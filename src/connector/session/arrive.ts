import { Code, ConnectError } from '@connectrpc/connect';
import { type Logger, toError } from '../../base/index.ts';
import type { wire } from '../../protocol/index.ts';
import type { ManagerLink } from './link.ts';

export interface ArriveDeps {
  readonly manager: ManagerLink['manager'];
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** With a time limit. */
  readonly ask: <T>(work: (signal: AbortSignal) => Promise<T>) => Promise<T>;
}

export interface Arrival {
  readonly client: wire.ClientInfo;
  /** Of the session before; empty the first time. */
  readonly sessionId: string;
  readonly held: readonly wire.InterceptInfo[];
}

/**
 * Takes up the session again where the manager still knows it, else tells what we held, else begins anew with it. Answers the
 * id of the session.
 */
export async function arrive(deps: ArriveDeps, { client, sessionId, held }: Arrival): Promise<string> {
  const { manager, log, signal, ask } = deps;
  if (sessionId && (await resume(deps, { client, sessionId, held }))) {
    return sessionId;
  }
  const id = (await ask((limit) => manager.arriveAsClient(client, { signal: limit }))).sessionId;
  for (const { spec } of held) {
    const request = { session: { sessionId: id }, ...(spec ? { interceptSpec: spec } : {}) };
    await manager
      .createIntercept(request, { signal })
      .catch((error: unknown) =>
        log.warn('an intercept could not be restored', { name: spec?.name, error: toError(error) }),
      );
  }
  return id;
}

async function resume({ manager, log, ask }: ArriveDeps, { client, sessionId, held }: Arrival): Promise<boolean> {
  const session = { sessionId };
  try {
    await ask((limit) => manager.remain({ session }, { signal: limit }));
    return true;
  } catch (error) {
    if (!(error instanceof ConnectError) || error.code !== Code.NotFound) {
      throw error;
    }
  }
  try {
    await ask((limit) => manager.reconnectClient({ session, client, intercepts: [...held] }, { signal: limit }));
    log.info('the traffic-manager had forgotten the session and took it up again');
    return true;
  } catch (error) {
    if (!(error instanceof ConnectError) || error.code !== Code.Unimplemented) {
      throw error;
    }
  }
  return false;
}
