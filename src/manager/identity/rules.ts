import { wire } from '../../protocol/index.ts';
import type { Question } from './access.ts';

/** Fields by which messages of the wire say in whose name a call is made. */
interface AnyMessage {
  readonly $typeName: string;
  readonly sessionId?: string;
  readonly session?: { readonly sessionId: string };
  readonly sessionInfo?: { readonly sessionId: string };
}

/**
 * Who may make a call. `open`: anybody. `client`: whoever the client's session belongs to. `agent`: the pod whose session it
 * is. `either`: both kinds of sessions. `arrival`, `agent-arrival`: there is no session yet. `user`: anybody who says who
 * they are; a session is not needed.
 */
export type Who = 'open' | 'client' | 'agent' | 'either' | 'arrival' | 'agent-arrival' | 'user';

/** By method; what is not here belongs to a client's session. */
const who: Readonly<Record<string, Who>> = {
  Version: 'open',
  GetAgentImageFQN: 'open',
  GetClientConfig: 'open',
  GetTelepresenceAPI: 'open',
  WatchLogLevel: 'open',
  ReportMetrics: 'open',
  MayDial: 'open',
  ArriveAsClient: 'arrival',
  ReconnectClient: 'arrival',
  ArriveAsAgent: 'agent-arrival',
  ReconnectAgent: 'agent-arrival',
  Remain: 'either',
  Depart: 'either',
  WatchIntercepts: 'either',
  WatchInterceptsDelta: 'either',
  WatchDial: 'either',
  WatchLookupDNS: 'agent',
  AgentLookupDNSResponse: 'agent',
  ReviewIntercept: 'agent',
  SetLogLevel: 'user',
};

export const whoMayCall = (method: string): Who => who[method] ?? 'client';

export function sessionIdOf(message: unknown): string {
  const { $typeName, sessionId, session, sessionInfo } = message as AnyMessage;
  const own = $typeName === wire.SessionInfoSchema.typeName ? sessionId : undefined;
  return own ?? session?.sessionId ?? sessionInfo?.sessionId ?? '';
}

/** What a caller must be allowed to do. `own` is the namespace that the client is connected to. Pure. */
export function questionsOf(method: string, message: unknown, own: string, managerNamespace: string): Question[] {
  const { name, namespace, namespaces, interceptSpec, client } = message as {
    readonly name?: string;
    readonly namespace?: string;
    readonly namespaces?: readonly string[];
    readonly interceptSpec?: wire.InterceptSpec;
    readonly client?: wire.ClientInfo;
  };
  switch (method) {
    case 'ArriveAsClient':
      return [{ verb: 'create', resource: 'connections', namespace: namespace ?? '' }];
    case 'ReconnectClient':
      return [{ verb: 'create', resource: 'connections', namespace: client?.namespace ?? '' }];
    case 'WatchWorkloads':
      return [{ verb: 'create', resource: 'connections', namespace: namespace || own }];
    case 'WatchAgentsNS':
    case 'WatchAgentPodsInNamespacesDelta':
    case 'WatchSessionEvents':
    case 'WatchNamespaces':
      return (namespaces ?? []).map((each) => ({ verb: 'create', resource: 'connections', namespace: each }));
    case 'PrepareIntercept':
    case 'CreateIntercept':
      return interceptSpec ? [attachmentOf(interceptSpec, own)] : [];
    case 'EnsureAgent':
    case 'GetAgentConfig':
      return [{ verb: 'create', resource: 'attachments', namespace: namespace || own, name }];
    case 'UninstallAgents':
      return [{ verb: 'delete', resource: 'attachments', namespace: own }];
    case 'SetLogLevel':
      return [{ verb: 'update', resource: 'loglevels', namespace: managerNamespace }];
    default:
      return [];
  }
}

export const attachmentOf = ({ agent, namespace }: wire.InterceptSpec, own: string): Question => ({
  verb: 'create',
  resource: 'attachments',
  namespace: namespace || own,
  name: agent,
});
