import { create } from '@bufbuild/protobuf';
import { type Clock, Emitter } from '../../base/index.ts';
import type { UserInfo } from '../../kube/index.ts';
import { wire } from '../../protocol/index.ts';
import { interceptExists, noSuchSession, tooManyIntercepts, tooManySessions } from '../errors.ts';

export interface ClientSession {
  readonly id: string;
  /** Fires when the session is over: its watches end, and a peer that is still there notices and comes back. */
  readonly ended: AbortSignal;
  readonly info: wire.ClientInfo;
  /** Whose it is; undefined when it was opened without a token. */
  readonly user: UserInfo | undefined;
  lastSeenMs: number;
  readonly leaseMs: number;
}

export interface AgentSession {
  readonly id: string;
  readonly ended: AbortSignal;
  readonly info: wire.AgentInfo;
  lastSeenMs: number;
}

/** Our clients renew every 5 s; a stock client every minute at most, and keeps its session for a day. */
const ownLeaseMs = 15_000;
const stockLeaseMs = 24 * 3_600_000;
/** Whoever opened a session with a token shows a valid one at least this often. */
const provenLeaseMs = 600_000;
const agentLeaseMs = 70_000;
/** Several hundred developers, and room for sessions that stock clients have left behind. */
const maxClients = 2_000;
/** Who has been silent for so long may have to make room. */
const silentMs = 60_000;
/** More than anybody holds. */
const maxInterceptsOfOne = 256;
const { WAITING, NO_AGENT, AGENT_ERROR } = wire.InterceptDispositionType;

/**
 * Sessions, agents and intercepts: one place, every change an event, snapshots out. It does no I/O; whoever watches
 * converges on what it says.
 */
export class Store {
  readonly clients = new Map<string, ClientSession>();
  readonly agents = new Map<string, AgentSession>();
  readonly intercepts = new Map<string, wire.InterceptInfo>();
  /** Of each namespace, in the order of their ids; made when it is asked for. */
  readonly #agentsIn = new Map<string, readonly AgentSession[]>();
  readonly #endings = new Map<string, AbortController>();
  readonly #changed = new Emitter<void>();
  readonly onChanged = this.#changed.event;
  readonly #clock: Clock;
  readonly installId: string;

  constructor(clock: Clock, installId: string) {
    this.#clock = clock;
    this.installId = installId;
  }

  addClient(id: string, info: wire.ClientInfo, user?: UserInfo): ClientSession {
    if (!this.clients.has(id) && this.clients.size >= maxClients) {
      this.#makeRoom();
    }
    const leaseMs = info.product === 'nearfield' ? ownLeaseMs : user ? provenLeaseMs : stockLeaseMs;
    const session = { id, info, user, ended: this.#endingOf(id), lastSeenMs: this.#clock.nowMs(), leaseMs };
    this.clients.set(id, session);
    this.#changed.fire();
    return session;
  }

  /** The one longest silent goes. Errors: `manager.too-many-sessions` when all of them live. */
  #makeRoom(): void {
    let oldest: ClientSession | undefined;
    for (const each of this.clients.values()) {
      oldest = oldest && oldest.lastSeenMs <= each.lastSeenMs ? oldest : each;
    }
    if (!oldest || this.#clock.nowMs() - oldest.lastSeenMs < silentMs) {
      throw tooManySessions();
    }
    this.remove(oldest.id);
  }

  client(id: string | undefined): ClientSession {
    const session = this.clients.get(id ?? '');
    if (!session) {
      throw noSuchSession(id ?? '');
    }
    return session;
  }

  /** A client's or an agent's. */
  session(id: string): ClientSession | AgentSession {
    return this.agents.get(id) ?? this.client(id);
  }

  /** A new agent makes intercepts of its workload wait for its review again. */
  addAgent(id: string, info: wire.AgentInfo): void {
    this.#agentsIn.delete(this.agents.get(id)?.info.namespace ?? '');
    this.#agentsIn.delete(info.namespace);
    this.agents.set(id, { id, info, ended: this.#endingOf(id), lastSeenMs: this.#clock.nowMs() });
    for (const intercept of this.#interceptsOf(info)) {
      if (intercept.disposition === NO_AGENT) {
        this.#put({ ...intercept, disposition: WAITING, message: '' });
      }
    }
    this.#changed.fire();
  }

  /** Renews a lease. Answers false for an unknown session. */
  touch(id: string): boolean {
    const session = this.clients.get(id) ?? this.agents.get(id);
    if (session) {
      session.lastSeenMs = this.#clock.nowMs();
    }
    return session !== undefined;
  }

  remove(id: string): void {
    const agent = this.agents.get(id);
    if (agent) {
      this.#removeAgent(agent);
    } else if (this.clients.delete(id)) {
      for (const [key, intercept] of this.intercepts) {
        if (intercept.clientSession?.sessionId === id) {
          this.intercepts.delete(key);
        }
      }
    } else {
      return;
    }
    this.#changed.fire();
    this.#endings.get(id)?.abort();
    this.#endings.delete(id);
  }

  /** Who arrives again under the same id goes on. */
  #endingOf(id: string): AbortSignal {
    const controller = this.#endings.get(id) ?? new AbortController();
    this.#endings.set(id, controller);
    return controller.signal;
  }

  #removeAgent(agent: AgentSession): void {
    this.agents.delete(agent.id);
    this.#agentsIn.delete(agent.info.namespace);
    for (const intercept of this.#interceptsOf(agent.info)) {
      if (intercept.podIp === agent.info.podIp || intercept.podIp === '') {
        const others = this.agentsOf(agent.info.name, agent.info.namespace).length > 0;
        this.#put({
          ...intercept,
          disposition: others ? WAITING : NO_AGENT,
          message: others ? 'Waiting for Agent approval' : 'no traffic-agent is running',
          podIp: '',
          podName: '',
        });
      }
    }
  }

  /** Sessions whose lease has run out are removed, and with them their intercepts. Called about once a second. */
  expire(): void {
    const now = this.#clock.nowMs();
    for (const { id, lastSeenMs, leaseMs } of [...this.clients.values()]) {
      if (now - lastSeenMs > leaseMs) {
        this.remove(id);
      }
    }
    for (const { id, lastSeenMs } of [...this.agents.values()]) {
      if (now - lastSeenMs > agentLeaseMs) {
        this.remove(id);
      }
    }
  }

  agentsOf(name: string, namespace: string): AgentSession[] {
    return this.agentsIn(namespace).filter((agent) => agent.info.name === name);
  }

  agentsIn(namespace: string): readonly AgentSession[] {
    const known = this.#agentsIn.get(namespace);
    if (known) {
      return known;
    }
    const found = [...this.agents.values()]
      .filter(({ info }) => info.namespace === namespace)
      .sort((a, b) => (a.id < b.id ? -1 : 1));
    this.#agentsIn.set(namespace, found);
    return found;
  }

  /** Without `refused` it waits for the verdict of an agent. */
  addIntercept(
    client: ClientSession,
    spec: wire.InterceptSpec,
    refused?: { readonly disposition: wire.InterceptDispositionType; readonly message: string },
  ): wire.InterceptInfo {
    const id = `${client.id}:${spec.name}`;
    if (this.intercepts.has(id)) {
      throw interceptExists(spec.name);
    }
    const held = [...this.intercepts.values()].filter(({ clientSession }) => clientSession?.sessionId === client.id);
    if (held.length >= maxInterceptsOfOne) {
      throw tooManyIntercepts(maxInterceptsOfOne);
    }
    const hasAgent = this.agentsOf(spec.agent, spec.namespace).length > 0;
    const intercept = create(wire.InterceptInfoSchema, {
      id,
      spec,
      disposition: hasAgent ? WAITING : NO_AGENT,
      message: hasAgent ? 'Waiting for Agent approval' : 'no traffic-agent is running',
      ...refused,
      clientSession: { sessionId: client.id, managerInstallId: this.installId },
    });
    this.intercepts.set(id, intercept);
    this.#changed.fire();
    return intercept;
  }

  /** Answers false when there was none. */
  removeIntercept(id: string): boolean {
    const existed = this.intercepts.delete(id);
    if (existed) {
      this.#changed.fire();
    }
    return existed;
  }

  /** An attachment that is over: whoever holds it reads why, and nothing is diverted any more. */
  endIntercept(id: string, message: string): void {
    const intercept = this.intercepts.get(id);
    if (intercept) {
      this.#put({ ...intercept, disposition: AGENT_ERROR, message });
      this.#changed.fire();
    }
  }

  /** An agent's verdict counts once, and only about its own workload. */
  review(agent: AgentSession, request: wire.ReviewInterceptRequest): void {
    const intercept = this.intercepts.get(request.id);
    const waits = intercept?.disposition === WAITING || intercept?.disposition === NO_AGENT;
    if (
      !intercept ||
      !waits ||
      intercept.spec?.agent !== agent.info.name ||
      intercept.spec.namespace !== agent.info.namespace
    ) {
      return;
    }
    const { disposition, message, podIp, sftpPort, ftpPort, mountPoint, environment, mounts, mechanismArgsDesc } =
      request;
    this.#put({
      ...intercept,
      ...{ disposition, message, podIp, sftpPort, ftpPort, mountPoint, environment, mounts, mechanismArgsDesc },
      podName: agent.info.podName,
      apiPort: agent.info.apiPort,
    });
    this.#changed.fire();
  }

  /** After a restart of the manager a client tells what it held. What exists already stays as it is. */
  restoreIntercepts(client: ClientSession, intercepts: readonly wire.InterceptInfo[]): void {
    for (const { spec } of intercepts) {
      if (spec && !this.intercepts.has(`${client.id}:${spec.name}`)) {
        this.addIntercept(client, spec);
      }
    }
  }

  #interceptsOf(info: wire.AgentInfo): wire.InterceptInfo[] {
    return [...this.intercepts.values()].filter(
      ({ spec }) => spec?.agent === info.name && spec.namespace === info.namespace,
    );
  }

  #put(intercept: wire.InterceptInfo): void {
    this.intercepts.set(intercept.id, intercept);
  }
}
