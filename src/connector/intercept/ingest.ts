import type { wire } from '../../protocol/index.ts';
import type { Attachment } from '../contract.ts';
import { ingestFailed } from '../errors.ts';
import { type FilesSource, volumesOf } from '../mounts/plan.ts';
import type { InterceptSession } from './intercept.ts';
import type { AttachPlan } from './request.ts';
import { localHost } from './spec.ts';

/** A container's environment taken over, without its requests. The manager keeps nothing of it. */
export interface Ingest {
  readonly view: Attachment;
  readonly environment: Readonly<Record<string, string>>;
  /** Textual address of a pod that had the environment. */
  readonly podIp: string;
  readonly files: FilesSource;
}

/** The manager waits 30 s for an agent. */
const ensureTimeoutMs = 40_000;

/** Has an agent put into the workload's pods and asks what it sees there. Errors: `connector.ingest-failed`. */
export async function ingest(session: InterceptSession, plan: AttachPlan, signal: AbortSignal): Promise<Ingest> {
  const { workload, namespace } = plan;
  const { agents } = await session.call(
    'the ingest',
    (manager, limit) =>
      manager.ensureAgent({ session: { sessionId: session.sessionId }, name: workload, namespace }, { signal: limit }),
    ensureTimeoutMs,
    signal,
  );
  const agent = agents.find((each) => Object.keys(each.containers).length > 0);
  if (!agent) {
    throw ingestFailed(`the traffic-agent of ${workload} does not say what its containers are`);
  }
  const { container, info } = chooseContainer(agent, plan.container);
  return {
    podIp: agent.podIp,
    files: {
      podIp: agent.podIp,
      port: agent.sftpPort,
      mountPoint: info.mountPoint,
      mounts: volumesOf(info.mounts, info.environment),
    },
    environment: info.environment,
    view: {
      name: plan.isNameGiven ? plan.name : `${plan.name}/${container}`,
      mode: 'ingest',
      workload,
      kind: agent.kind || plan.kind,
      namespace,
      container,
      localHost,
      ports: [],
      filters: { headers: {}, paths: [], methods: [] },
      toPod: plan.toPod,
      state: 'active',
    },
  };
}

function chooseContainer(
  agent: wire.AgentInfo,
  asked: string,
): { readonly container: string; readonly info: wire.ContainerInfo } {
  const names = Object.keys(agent.containers).sort();
  const container = asked || (names.length === 1 ? names[0] : undefined);
  const info = container === undefined ? undefined : agent.containers[container];
  if (container === undefined || !info) {
    throw ingestFailed(
      asked
        ? `${agent.name} has no container ${asked}, but ${names.join(', ')}`
        : `${agent.name} has several containers (${names.join(', ')}): say which is meant`,
    );
  }
  return { container, info };
}
