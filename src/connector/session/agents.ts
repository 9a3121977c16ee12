import type { Duplex } from 'node:stream';
import { createClient } from '@connectrpc/connect';
import {
  type Clock,
  type Disposable,
  formatIp,
  type IpBytes,
  type Logger,
  sleep,
  toError,
  withTimeout,
} from '../../base/index.ts';
import type { Kube } from '../../kube/index.ts';
import { Agent, type wire } from '../../protocol/index.ts';
import {
  createCallTransport,
  http2Upgrade,
  muxUpgrade,
  type OnOpen,
  openHttp2,
  openMux,
  type TunnelOpener,
  type TunnelOrigin,
  tunnelCalls,
} from '../../protocol/transport/index.ts';
import type { Inbound } from '../inbound/inbound.ts';

export interface AgentSessionsDeps {
  readonly kube: Pick<Kube, 'connectToPod'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly inbound: Pick<Inbound, 'serve' | 'take'>;
}

const retryMs = 500;
/** Callers that the developer's program is still answering when it is left. */
const drainMs = 30_000;

interface Open {
  readonly controller: AbortController;
  readonly sessionId: string;
}

/**
 * Connections to the agents whose pods we intercept: their callers need no detour through the traffic-manager, and do not
 * notice when that is replaced. They outlive the connection to it; what it says next decides which of them stay.
 */
export class AgentSessions implements Disposable {
  readonly #deps: AgentSessionsDeps;
  readonly #open = new Map<string, Open>();
  readonly #ended = new AbortController();
  /** By the pods' addresses. */
  readonly #sessions = new Map<string, TunnelOrigin>();

  constructor(deps: AgentSessionsDeps) {
    this.#deps = deps;
  }

  /** Connects to these and to no others. A session of another name begins anew. */
  follow(agents: readonly wire.AgentPodInfo[], sessionId: string): void {
    const wanted = new Map(
      agents
        .filter(({ apiPort }) => apiPort > 0)
        .map((each) => [`${each.namespace}/${each.podName}/${each.podId}`, each]),
    );
    for (const [key, open] of this.#open) {
      if (!wanted.has(key) || open.sessionId !== sessionId) {
        this.#open.delete(key);
        open.controller.abort();
      }
    }
    for (const [key, agent] of wanted) {
      if (!this.#open.has(key)) {
        const controller = new AbortController();
        this.#open.set(key, { controller, sessionId });
        void this.#keep(agent, sessionId, controller.signal);
      }
    }
  }

  /** The connection to the agent of a pod, while there is one. */
  tunnelsTo(podIp: IpBytes): TunnelOrigin | undefined {
    return this.#sessions.get(formatIp(podIp));
  }

  /** At once: callers that are still there are broken off. */
  dispose(): void {
    this.#ended.abort();
    for (const { controller } of this.#open.values()) {
      controller.abort();
    }
    this.#open.clear();
  }

  async #keep(agent: wire.AgentPodInfo, sessionId: string, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    while (!signal.aborted) {
      await this.#serve(agent, sessionId, signal).catch((error: unknown) => {
        if (!signal.aborted) {
          log.debug('the connection to an agent ended', { pod: agent.podName, error: toError(error) });
        }
      });
      await sleep(clock, retryMs, signal).catch(() => undefined);
    }
  }

  async #serve(agent: wire.AgentPodInfo, sessionId: string, signal: AbortSignal): Promise<void> {
    const connection =
      (await this.#openShared(agent, sessionId, signal)) ?? (await this.#openCalls(agent, sessionId, signal));
    const podIp = formatIp(agent.podIp);
    const end = (): void => connection.close();
    this.#ended.signal.addEventListener('abort', end, { once: true });
    this.#sessions.set(podIp, { tunnels: connection.tunnels, sessionId });
    try {
      await connection.serve();
    } finally {
      this.#sessions.delete(podIp);
      if (signal.aborted && !this.#ended.signal.aborted) {
        connection.leave();
        await withTimeout(this.#deps.clock, drainMs, 'the last callers', () => connection.closed).catch(
          () => undefined,
        );
      }
      this.#ended.signal.removeEventListener('abort', end);
      connection.close();
    }
  }

  /** All tunnels in one connection. Undefined where the agent is not ours. */
  async #openShared(agent: wire.AgentPodInfo, sessionId: string, signal: AbortSignal): Promise<Connection | undefined> {
    const { clock, inbound } = this.#deps;
    const onOpen: OnOpen = (connection, info) => void inbound.take(connection, info);
    const mux = await openMux(await this.#forward(agent, muxUpgrade, signal), { clock, sessionId, signal, onOpen });
    return (
      mux && {
        tunnels: mux,
        closed: mux.closed,
        serve: () => Promise.race([mux.closed, aborted(signal)]),
        leave: () => mux.leave(),
        close: () => mux.close(),
      }
    );
  }

  /** A call for each tunnel, which the agent asks us for. */
  async #openCalls(agent: wire.AgentPodInfo, sessionId: string, signal: AbortSignal): Promise<Connection> {
    const { clock, inbound } = this.#deps;
    const forward = await this.#forward(agent, http2Upgrade, signal);
    const session = await openHttp2(forward, { clock, signal });
    const tunnels = tunnelCalls(session, 'agent');
    const client = createClient(Agent, createCallTransport(session));
    return {
      tunnels,
      closed: new Promise<void>((resolve) => session.once('close', () => resolve())),
      serve: () => inbound.serve({ tunnels, sessionId }, client.watchDial({ sessionId }, { signal })),
      leave: () => session.close(),
      close: () => {
        session.destroy();
        forward.destroy();
      },
    };
  }

  #forward(
    { namespace, podName, apiPort }: wire.AgentPodInfo,
    upgrade: typeof http2Upgrade | typeof muxUpgrade,
    signal: AbortSignal,
  ): Promise<Duplex> {
    return this.#deps.kube.connectToPod({ namespace, pod: podName, port: apiPort, upgrade, signal });
  }
}

/** To one agent. */
interface Connection {
  readonly tunnels: TunnelOpener;
  readonly closed: Promise<unknown>;
  /** Lasts until either end leaves. */
  serve(): Promise<unknown>;
  /** No new callers come; it closes when those that are there have their answers. */
  leave(): void;
  close(): void;
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    } else {
      signal.addEventListener('abort', () => resolve(), { once: true });
    }
  });
