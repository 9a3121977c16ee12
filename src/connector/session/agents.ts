import type { ClientHttp2Session } from 'node:http2';
import { createClient } from '@connectrpc/connect';
import { type Clock, type Disposable, formatIp, type IpBytes, type Logger, sleep, toError } from '../../base/index.ts';
import type { Kube } from '../../kube/index.ts';
import { Agent, type wire } from '../../protocol/index.ts';
import { createCallTransport, http2Upgrade, openHttp2, openMux } from '../../protocol/transport/index.ts';
import type { Inbound } from '../inbound/inbound.ts';
import type { TunnelOrigin } from '../outbound/dial.ts';

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

  async #serve(
    { namespace, podName, podIp, apiPort }: wire.AgentPodInfo,
    sessionId: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { kube, clock } = this.#deps;
    const forward = await kube.connectToPod({
      namespace,
      pod: podName,
      port: apiPort,
      upgrade: http2Upgrade,
      signal,
    });
    try {
      const session = await openHttp2(forward, { clock, signal });
      const end = (): void => session.destroy();
      this.#ended.signal.addEventListener('abort', end, { once: true });
      try {
        this.#sessions.set(formatIp(podIp), { session, sessionId, service: 'agent' });
        await this.#bringConnections(session, sessionId, signal);
      } finally {
        this.#sessions.delete(formatIp(podIp));
        if (signal.aborted && !this.#ended.signal.aborted && !session.destroyed) {
          await drained(session, clock);
        }
        this.#ended.signal.removeEventListener('abort', end);
        session.destroy();
      }
    } finally {
      forward.destroy();
    }
  }

  /** In one stream where the agent is ours; in a tunnel for each where it is not. Lasts until either end leaves. */
  async #bringConnections(session: ClientHttp2Session, sessionId: string, signal: AbortSignal): Promise<void> {
    const { clock, inbound } = this.#deps;
    const mux = await openMux(session, {
      clock,
      service: 'agent',
      sessionId,
      signal,
      onOpen: (connection, info) => void inbound.take(connection, info),
    });
    if (!mux) {
      const agent = createClient(Agent, createCallTransport(session));
      await inbound.serve({ service: 'agent', session, sessionId }, agent.watchDial({ sessionId }, { signal }));
      return;
    }
    await Promise.race([mux.closed, aborted(signal)]);
    mux.leave();
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    } else {
      signal.addEventListener('abort', () => resolve(), { once: true });
    }
  });

/** No new callers come; resolves when those that are there have their answers, or have had their time. */
function drained(
  session: { close(): void; destroy(): void; once(event: 'close', listener: () => void): unknown },
  clock: Clock,
): Promise<void> {
  return new Promise((resolve) => {
    const limit = clock.after(drainMs, () => session.destroy());
    session.once('close', () => {
      void limit.dispose();
      resolve();
    });
    session.close();
  });
}
