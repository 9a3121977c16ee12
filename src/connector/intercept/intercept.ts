import { create } from '@bufbuild/protobuf';
import { type Clock, toError, withTimeout } from '../../base/index.ts';
import { wire } from '../../protocol/index.ts';
import type { Attachment, InterceptRequest } from '../contract.ts';
import { interceptFailed, interceptTimedOut, noSuchAttachment } from '../errors.ts';
import type { ManagerSession } from '../session/session.ts';

const localHost = '127.0.0.1';
/** The manager waits 30 s for an agent; ours is longer, so that its reason is what one reads. */
const interceptTimeoutMs = 40_000;
const nanosecondsPerMs = 1_000_000n;
const { ACTIVE, WAITING, NO_AGENT, AGENT_ERROR, BAD_ARGS, NO_PORTS, NO_MECHANISM } = wire.InterceptDispositionType;

const kindNames: Record<string, string> = {
  deployment: 'Deployment',
  replicaset: 'ReplicaSet',
  statefulset: 'StatefulSet',
  rollout: 'Rollout',
};

/** Creates an intercept and waits until an agent has taken it. What fails is taken back. */
export async function createIntercept(
  session: ManagerSession,
  request: InterceptRequest,
  connected: string,
  clock: Clock,
): Promise<string> {
  const parts = request.workload.split('/');
  const workload = parts[parts.length - 1] ?? '';
  const kind = parts.length > 1 ? (kindNames[(parts[0] ?? '').toLowerCase()] ?? '') : '';
  const namespace = request.namespace || connected;
  const name = request.name || (namespace === connected ? workload : `${workload}-${namespace}`);
  const base = create(wire.InterceptSpecSchema, {
    name,
    client: session.clientName,
    agent: workload,
    namespace,
    workloadKind: kind,
    mechanism: 'tcp',
    targetHost: localHost,
    targetPort: request.localPort,
    portIdentifier: request.servicePort ?? '',
    dialTimeout: 5_000n * nanosecondsPerMs,
    roundtripLatency: 2_000n * nanosecondsPerMs,
  });
  const own = { sessionId: session.sessionId };
  const prepared = await session.call('preparing the intercept', (manager, signal) =>
    manager.prepareIntercept({ session: own, interceptSpec: base }, { signal }),
  );
  if (prepared.error) {
    throw interceptFailed(prepared.error);
  }
  const {
    serviceUid,
    serviceName,
    servicePortName,
    servicePort,
    workloadKind,
    protocol,
    containerName,
    containerPort,
  } = prepared;
  const chosen = {
    serviceUid,
    serviceName,
    servicePortName,
    servicePort,
    workloadKind,
    protocol,
    containerName,
    containerPort,
  };
  await session.call(
    'the intercept',
    (manager, signal) => manager.createIntercept({ session: own, interceptSpec: { ...base, ...chosen } }, { signal }),
    interceptTimeoutMs,
  );
  try {
    await untilActive(session, name, workload, clock);
  } catch (error) {
    await leaveIntercept(session, name).catch(() => undefined);
    throw error;
  }
  return name;
}

export async function leaveIntercept(session: ManagerSession, name: string): Promise<void> {
  if (!session.intercepts.some(({ spec }) => spec?.name === name)) {
    throw noSuchAttachment(name);
  }
  await session.call('leaving', (manager, signal) =>
    manager.removeIntercept({ session: { sessionId: session.sessionId }, name }, { signal }),
  );
  // Not seen in the watch yet; gone for everyone who asks from now on.
  session.intercepts = session.intercepts.filter(({ spec }) => spec?.name !== name);
}

export function toAttachments(intercepts: readonly wire.InterceptInfo[]): Attachment[] {
  return intercepts.flatMap(({ spec, disposition, message }): Attachment[] =>
    spec
      ? [
          {
            name: spec.name,
            workload: spec.agent,
            kind: spec.workloadKind,
            namespace: spec.namespace,
            servicePort: spec.servicePort,
            containerPort: spec.containerPort,
            localHost: spec.targetHost,
            localPort: spec.targetPort,
            state:
              disposition === ACTIVE
                ? 'active'
                : disposition === WAITING || disposition === NO_AGENT
                  ? 'waiting'
                  : 'error',
            ...(message ? { message } : {}),
          },
        ]
      : [],
  );
}

function untilActive(session: ManagerSession, name: string, workload: string, clock: Clock): Promise<void> {
  return withTimeout(
    clock,
    interceptTimeoutMs,
    'the intercept',
    (signal) =>
      new Promise<void>((resolve, reject) => {
        const check = (): void => {
          const found = session.intercepts.find(({ spec }) => spec?.name === name);
          if (found?.disposition === ACTIVE) {
            end();
            resolve();
          } else if (found && [AGENT_ERROR, BAD_ARGS, NO_PORTS, NO_MECHANISM].includes(found.disposition)) {
            end();
            reject(interceptFailed(found.message));
          }
        };
        const subscription = session.onInterceptsChanged(check);
        const end = (): void => void subscription.dispose();
        signal.addEventListener('abort', end, { once: true });
        check();
      }),
  ).catch((error: unknown) => {
    throw toError(error).code === 'deadline_exceeded' ? interceptTimedOut(workload) : error;
  });
}
