import { type Clock, toError, withTimeout } from '../../base/index.ts';
import { wire } from '../../protocol/index.ts';
import { interceptFailed, interceptTimedOut, noSuchAttachment } from '../errors.ts';
import type { ManagerSession } from '../session/session.ts';
import type { AttachPlan } from './request.ts';
import { completeSpec, toSpec } from './spec.ts';

/** The manager waits 30 s for an agent; ours is longer, so that its reason is what one reads. */
const interceptTimeoutMs = 40_000;
const prepareTimeoutMs = 15_000;
const { ACTIVE, AGENT_ERROR, BAD_ARGS, NO_PORTS, NO_MECHANISM } = wire.InterceptDispositionType;

/** Where intercepts are made and seen: the manager's session. */
export type InterceptSession = Pick<
  ManagerSession,
  'call' | 'clientName' | 'sessionId' | 'signal' | 'intercepts' | 'onInterceptsChanged'
>;

/**
 * Creates an intercept and waits until an agent has taken it; answers its name. What fails is taken back.
 * Errors: `connector.intercept-failed`, `connector.intercept-timed-out`, those of the manager.
 */
export async function createIntercept(
  session: InterceptSession,
  plan: AttachPlan,
  name: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<string> {
  const own = { sessionId: session.sessionId };
  const asked = toSpec(plan, session.clientName, name);
  const prepared = await session.call(
    'preparing the intercept',
    (manager, limit) => manager.prepareIntercept({ session: own, interceptSpec: asked }, { signal: limit }),
    prepareTimeoutMs,
    signal,
  );
  if (prepared.error) {
    throw interceptFailed(prepared.error);
  }
  const spec = completeSpec(asked, prepared);
  try {
    await session.call(
      'the intercept',
      (manager, limit) => manager.createIntercept({ session: own, interceptSpec: spec }, { signal: limit }),
      interceptTimeoutMs,
      signal,
    );
    await untilActive(session, spec.name, plan.workload, clock, signal);
  } catch (error) {
    // Also one whose answer did not come: the manager may have it nevertheless. What it refused it does not have.
    if (session.intercepts.some((each) => each.spec?.name === spec.name) || isUncertain(error)) {
      await removeIntercept(session, spec.name).catch(() => undefined);
    }
    throw error;
  }
  return spec.name;
}

const isUncertain = (error: unknown): boolean =>
  ['deadline_exceeded', 'cancelled', 'unavailable'].includes(toError(error).code);

/** Errors: `connector.no-such-attachment`. */
export async function leaveIntercept(session: InterceptSession, name: string): Promise<void> {
  if (!session.intercepts.some(({ spec }) => spec?.name === name)) {
    throw noSuchAttachment(name);
  }
  await removeIntercept(session, name);
}

async function removeIntercept(session: InterceptSession, name: string): Promise<void> {
  await session.call('leaving', (manager, signal) =>
    manager.removeIntercept({ session: { sessionId: session.sessionId }, name }, { signal }),
  );
  // Not seen in the watch yet; gone for everyone who asks from now on.
  session.intercepts = session.intercepts.filter(({ spec }) => spec?.name !== name);
}

function untilActive(
  session: InterceptSession,
  name: string,
  workload: string,
  clock: Clock,
  outer: AbortSignal,
): Promise<void> {
  return withTimeout(
    clock,
    interceptTimeoutMs,
    'the intercept',
    (signal) =>
      new Promise<void>((resolve, reject) => {
        let wasSeen = false;
        const check = (): void => {
          const found = session.intercepts.find(({ spec }) => spec?.name === name);
          if (found?.disposition === ACTIVE) {
            end();
            resolve();
          } else if (found && [AGENT_ERROR, BAD_ARGS, NO_PORTS, NO_MECHANISM].includes(found.disposition)) {
            end();
            reject(interceptFailed(found.message));
          } else if (wasSeen && !found) {
            end();
            reject(interceptFailed(`${name} was left before it became active`));
          }
          wasSeen ||= found !== undefined;
        };
        const subscription = session.onInterceptsChanged(check);
        const end = (): void => void subscription.dispose();
        signal.addEventListener('abort', end, { once: true });
        check();
      }),
    outer,
  ).catch((error: unknown) => {
    throw toError(error).code === 'deadline_exceeded' ? interceptTimedOut(workload) : error;
  });
}
