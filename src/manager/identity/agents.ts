import type { Interceptor } from '@connectrpc/connect';
import type { Logger } from '../../base/index.ts';
import { wire } from '../../protocol/index.ts';
import { type Caller, callerKey } from '../../protocol/transport/index.ts';
import { notItsPod } from '../errors.ts';
import type { Store } from '../state/store.ts';
import type { PodCallers } from './pods.ts';

export interface AgentGateDeps {
  readonly store: Pick<Store, 'agents'>;
  readonly pods: PodCallers;
  readonly log: Logger;
}

interface AnyRequest {
  readonly session?: { readonly sessionId?: string };
  readonly sessionInfo?: { readonly sessionId?: string };
  readonly sessionId?: string;
}

/**
 * An agent's session has the name of its pod, which anybody may know who may list pods: so it is no secret, and a call in its
 * name is served only when it comes from that pod.
 */
export class AgentGate {
  readonly #deps: AgentGateDeps;

  constructor(deps: AgentGateDeps) {
    this.#deps = deps;
  }

  readonly interceptor: Interceptor = (next) => async (request) => {
    const caller = request.contextValues.get(callerKey);
    if (!request.stream) {
      await this.#check(caller, request.message);
      return next(request);
    }
    // A watch has one request.
    const check = (message: unknown): Promise<void> => this.#check(caller, message);
    const checked = async function* (
      messages: AsyncIterable<typeof request.message extends AsyncIterable<infer T> ? T : never>,
    ) {
      for await (const message of messages) {
        await check(message);
        yield message;
      }
    };
    return next({ ...request, message: checked(request.message) });
  };

  /** Whether a tunnel may be opened in the name of a session, if that is an agent's. */
  mayTunnel(caller: Caller, sessionId: string): boolean {
    const agent = this.#deps.store.agents.get(sessionId);
    return !agent || this.#deps.pods.isStillAgent(caller.address, agent.info);
  }

  async #check(caller: Caller, message: unknown): Promise<void> {
    const { store, pods, log } = this.#deps;
    const arriving = arrivingOf(message);
    const id = sessionOf(message as AnyRequest);
    const known = arriving ? undefined : store.agents.get(id);
    const isRight = arriving
      ? await pods.isAgent(caller.address, arriving)
      : !known || pods.isStillAgent(caller.address, known.info);
    if (!isRight) {
      const { namespace, podName } = arriving ?? known?.info ?? { namespace: '', podName: '' };
      log.info('a call in the name of an agent came from elsewhere', { namespace, pod: podName, from: caller.address });
      throw notItsPod();
    }
  }
}

function arrivingOf(message: unknown): wire.AgentInfo | undefined {
  switch ((message as { readonly $typeName?: string }).$typeName) {
    case wire.AgentInfoSchema.typeName:
      return message as wire.AgentInfo;
    case wire.ReconnectAgentRequestSchema.typeName:
      return (message as wire.ReconnectAgentRequest).agent;
    default:
      return undefined;
  }
}

function sessionOf({ session, sessionInfo, sessionId }: AnyRequest): string {
  return session?.sessionId ?? sessionInfo?.sessionId ?? sessionId ?? '';
}
