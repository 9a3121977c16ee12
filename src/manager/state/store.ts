import { create } from '@bufbuild/protobuf';
import { type Clock, Emitter } from '../../base/index.ts';
import type { UserInfo } from '../../kube/index.ts';
import { wire } from '../../protocol/index.ts';
import { interceptExists, noSuchSession } from '../errors.ts';

export interface ClientSession {
  readonly id: string;
  readonly info: wire.ClientInfo;
  /** Whose it is; undefined when it was opened without a token. */
  readonly user: UserInfo | undefined;
  lastSeenMs: number;
  readonly leaseMs: number;
}

export interface AgentSession {
  readonly id: string;
  readonly info: wire.AgentInfo;
  lastSeenMs: number;
}

/** Our clients renew every 5 s; a stock client every minute at most, and keeps its session for a day. */
const ownLeaseMs = 15_000;
const stockLeaseMs = 24 * 3_600_000;
/** Whoever opened a session with a token shows a valid one at least this often. */
const provenLeaseMs = 600_000;
const agentLeaseMs = 70_000;
const { WAITING, NO_AGENT, AGENT_ERROR } = wire.InterceptDispositionType;

/**
 * Sessions, agents and intercepts: one place, every change an event, snapshots out. It does no I/O; whoever watches
 * converges on what it says.
 */
export class Store {
  readonly clients = new Map<string, ClientSession>();
  readonly agents = new Map<string, AgentSession>();
  readonly intercepts = new Map<string, wire.InterceptInfo>();
  readonly #changed = new Emitter<void>();
  readonly onChanged = this.#changed.event;
  readonly #clock: Clock;
  readonly installId: string;

  constructor(clock: Clock, installId: string) {
    this.#clock = clock;
    this.installId = installId;
  }

  addClient(id: string, info: wire.ClientInfo, user?: UserInfo): ClientSession {
    const leaseMs = info.product === 'nearfield' ? ownLeaseMs : user ? provenLeaseMs : stockLeaseMs;
    const session = { id, info, user, lastSeenMs: this.#clock.nowMs(), leaseMs };
    this.clients.set(id, session);
    this.#changed.fire();
    return session;
  }

  client(id: string | undefined): ClientSession {
    const session = this.clients.get(id ?? '');
    if (!session) {
      throw noSuchSession(id ?? '');
    }
    return session;
  }

  /** A new agent makes intercepts of its workload wait for its review again. */
  addAgent(id: string, info: wire.AgentInfo): void {
    this.agents.set(id, { id, info, lastSeenMs: this.#clock.nowMs() });
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
  }

  #removeAgent(agent: AgentSession): void {
    this.agents.delete(agent.id);
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
    return [...this.agents.values()].filter((agent) => agent.info.name === name && agent.info.namespace === namespace);
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
