import { create } from '@bufbuild/protobuf';
import { createContextKey, type Interceptor, type StreamRequest, type UnaryRequest } from '@connectrpc/connect';
import { type Logger, NearfieldError, toError } from '../../base/index.ts';
import type { UserInfo } from '../../kube/index.ts';
import { wire } from '../../protocol/index.ts';
import { type Caller, callerKey } from '../../protocol/transport/index.ts';
import { notItsPod, notYourSession, tokenRejected, tokenRequired } from '../errors.ts';
import type { Admission } from '../policy/admission.ts';
import type { ClientSession, Store } from '../state/store.ts';
import type { PodCallers } from './pods.ts';
import { attachmentOf, questionsOf, sessionIdOf, whoMayCall } from './rules.ts';
import type { TokenReviewer } from './tokens.ts';
import { bearerOf, isSameUser, userKey } from './user.ts';

export interface GateDeps {
  readonly store: Store;
  readonly tokens: Pick<TokenReviewer, 'identify' | 'isAvailable'>;
  readonly admission: Admission;
  readonly pods: Pick<PodCallers, 'isKnownPod'>;
  readonly requireToken: boolean;
  readonly managerNamespace: string;
  readonly log: Logger;
}

/** Why a dry run is refused: its answer says so, and clients of every release show it. */
export const refusalKey = createContextKey<NearfieldError | undefined>(undefined, { description: 'the refusal' });

/** More than anybody holds; a client that comes back tells all of them at once. */
const maxRestored = 256;

/**
 * Who calls, and whether they may: every call passes here before it is served. A session belongs to whoever opened it with
 * a token; where tokens are required, there is no other, and agents call from the addresses of their pods only.
 */
export class Gate {
  readonly #deps: GateDeps;
  /** Who has shown a token on a connection: its tunnels need not show it again. */
  readonly #users = new WeakMap<Caller, UserInfo>();

  constructor(deps: GateDeps) {
    this.#deps = deps;
  }

  /** For clients to know, before they send a token. */
  get terms(): { readonly authSupported: boolean; readonly authRequired: boolean } {
    const { requireToken, tokens } = this.#deps;
    return { authSupported: requireToken || tokens.isAvailable, authRequired: requireToken };
  }

  readonly interceptor: Interceptor = (next) => async (request) => {
    if (request.stream) {
      return next(await this.#admitStream(request));
    }
    try {
      request = await this.#admitUnary(request);
    } catch (thrown) {
      if (request.method.name !== 'PrepareIntercept' || !(thrown instanceof NearfieldError)) {
        throw thrown;
      }
      request.contextValues.set(refusalKey, thrown);
    }
    return next(request);
  };

  /**
   * Whether a tunnel may be opened in the name of a session. True at once where nothing has to be asked: there may be
   * thousands.
   */
  mayTunnel(caller: Caller, authorization: string | undefined, sessionId: string): boolean | Promise<boolean> {
    const { store, requireToken } = this.#deps;
    const agent = store.agents.get(sessionId);
    if (agent) {
      return this.isAgent(caller, agent.info);
    }
    const client = store.clients.get(sessionId);
    if (!client?.user) {
      return client !== undefined && !requireToken;
    }
    if (isSameUser(this.#users.get(caller), client.user)) {
      return true;
    }
    return this.#userOf(caller, authorization).then(
      (user) => isSameUser(user, client.user),
      () => false,
    );
  }

  /** Whether an agent's call comes from its own pod; only where it matters who calls. */
  isAgent(caller: Caller, info: wire.AgentInfo): boolean {
    return !this.#deps.requireToken || this.#deps.pods.isKnownPod(caller.address, info);
  }

  async #admitUnary(request: UnaryRequest): Promise<UnaryRequest> {
    const message = await this.#admit(request, request.message);
    return message === request.message ? request : { ...request, message: message as typeof request.message };
  }

  /** A watch has one request. */
  async #admitStream(request: StreamRequest): Promise<StreamRequest> {
    const messages = request.message[Symbol.asyncIterator]();
    const first = await messages.next();
    if (!first.done) {
      await this.#admit(request, first.value);
    }
    const again = async function* (): AsyncGenerator<never> {
      if (!first.done) {
        yield first.value as never;
      }
      for (let each = await messages.next(); !each.done; each = await messages.next()) {
        yield each.value as never;
      }
    };
    return { ...request, message: again() };
  }

  /** The message to serve. */
  async #admit(request: UnaryRequest | StreamRequest, message: unknown): Promise<unknown> {
    const { store, requireToken, admission, managerNamespace } = this.#deps;
    const method = request.method.name;
    const caller = request.contextValues.get(callerKey);
    const who = whoMayCall(method);
    if (who === 'open') {
      return message;
    }
    const id = sessionIdOf(message);
    const agent = store.agents.get(id);
    if (who === 'agent' || who === 'agent-arrival' || (who === 'either' && (agent || id.startsWith('agent:')))) {
      const info = who === 'agent-arrival' ? arrivingAgent(message) : agent?.info;
      if (info && !this.isAgent(caller, info)) {
        throw notItsPod();
      }
      return message;
    }
    const user = await this.#userOf(caller, request.header.get('authorization') ?? undefined);
    if (requireToken && !user) {
      throw tokenRequired();
    }
    request.contextValues.set(userKey, user);
    const client = store.clients.get(id);
    if (client?.user && !isSameUser(client.user, user)) {
      throw notYourSession();
    }
    const own = client?.info.namespace ?? '';
    await admission.checkAccess(user, questionsOf(method, message, own, managerNamespace));
    return this.#checkAttaching(method, message, user, client);
  }

  async #checkAttaching(
    method: string,
    message: unknown,
    user: UserInfo | undefined,
    client: ClientSession | undefined,
  ): Promise<unknown> {
    const { admission, log } = this.#deps;
    const arriving = (message as { readonly client?: wire.ClientInfo }).client;
    const own = client?.info.namespace ?? arriving?.namespace ?? '';
    if (method === 'PrepareIntercept' || method === 'CreateIntercept') {
      const { interceptSpec: spec } = message as wire.CreateInterceptRequest;
      if (spec) {
        admission.checkPolicy({ user, namespace: spec.namespace || own, workload: spec.agent, spec });
      }
    } else if (method === 'EnsureAgent' || method === 'GetAgentConfig') {
      const { name, namespace } = message as wire.EnsureAgentRequest;
      admission.checkPolicy({ user, namespace: namespace || own, workload: name });
    } else if (method === 'ReconnectClient') {
      const request = message as wire.ReconnectClientRequest;
      const intercepts: wire.InterceptInfo[] = [];
      for (const each of request.intercepts.slice(0, maxRestored)) {
        const { namespace, name = '' } = attachmentOf(each.spec ?? create(wire.InterceptSpecSchema), own);
        try {
          await admission.check({ user, namespace, workload: name, spec: each.spec });
          intercepts.push(each);
        } catch (error) {
          log.info('an attachment was not restored', { workload: name, namespace, error: toError(error) });
        }
      }
      return { ...request, intercepts };
    }
    return message;
  }

  /** Errors: `manager.token-rejected` where tokens are required; else a token that nobody knows is none. */
  async #userOf(caller: Caller, authorization: string | undefined): Promise<UserInfo | undefined> {
    const token = bearerOf(authorization);
    if (token === undefined) {
      return undefined;
    }
    const { tokens, requireToken } = this.#deps;
    if (!requireToken && !tokens.isAvailable) {
      return undefined;
    }
    const user = await tokens.identify(token).catch((error: unknown) => {
      if (requireToken) {
        throw error;
      }
      return undefined;
    });
    if (!user && requireToken) {
      throw tokenRejected();
    }
    if (user && caller !== callerKey.defaultValue) {
      this.#users.set(caller, user);
    }
    return user;
  }
}

function arrivingAgent(message: unknown): wire.AgentInfo | undefined {
  const { $typeName } = message as { readonly $typeName: string };
  return $typeName === wire.AgentInfoSchema.typeName
    ? (message as wire.AgentInfo)
    : (message as wire.ReconnectAgentRequest).agent;
}
