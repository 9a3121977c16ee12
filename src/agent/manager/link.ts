import type { ClientHttp2Session } from 'node:http2';
import { create } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { type Clock, type Disposable, type Logger, sleep, withTimeout } from '../../base/index.ts';
import { parseConnId, Sessions, type StreamInfo, serializeStreamInfo, tunnelCode, wire } from '../../protocol/index.ts';
import { createCallTransport, openHttp2, openTunnel, type TunnelCall } from '../../protocol/transport/index.ts';
import type { Review } from '../port/diversion.ts';
import type { OpenManagerTunnel } from '../tunnel/diverter.ts';

export interface LinkOptions {
  readonly host: string;
  readonly port: number;
  /** Of a machine that has several. */
  readonly localAddress?: string;
  readonly info: wire.AgentInfo;
  readonly clock: Clock;
  readonly log: Logger;
  /** A snapshot of the intercepts that concern this workload; answers what is to be reviewed. */
  readonly onIntercepts: (intercepts: readonly wire.InterceptInfo[]) => readonly Review[];
  /** The variables of every container, as they are now. */
  readonly environments: () => Promise<Readonly<Record<string, Record<string, string>>>>;
  /** A container's volumes, as clients find them. */
  readonly mountsOf: (container: string) => Pick<wire.ContainerInfo, 'mountPoint' | 'mounts'>;
  /** The manager knows this agent, and what is attached is applied: the pod may get requests. */
  readonly onServing: () => void;
  /** Somebody wants more or less to be logged for a while; 0: until the next time. */
  readonly onLogLevel: (level: string, durationMs: number) => void;
  /** The manager wants a connection from inside the pod (managers up to 2.24); the stream is not started yet. */
  readonly dialFor: (stream: TunnelCall, info: StreamInfo) => void;
  /** The manager wants a name as the pod sees it (managers up to 2.24). */
  readonly lookup: (name: string, qtype: number) => Promise<{ readonly rCode: number; readonly rrs: Uint8Array }>;
}

const retryMs = 1_000;
const remainPeriodMs = 5_000;
const callTimeoutMs = 5_000;
/** How long intercepts are kept without the manager: its restart must not disturb them. */
const graceMs = 20_000;
const { ACTIVE, AGENT_ERROR } = wire.InterceptDispositionType;

type Manager = Client<typeof wire.Manager>;

/** The agent's connection to the manager: made again whenever it breaks, under the same session id. */
export class ManagerLink implements Disposable {
  readonly #options: LinkOptions;
  readonly #controller = new AbortController();
  #session: ClientHttp2Session | undefined;
  #sessionId: string | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop = this.#run();
  }

  readonly openTunnel: OpenManagerTunnel = () =>
    this.#session && !this.#session.destroyed && this.#sessionId
      ? { stream: openTunnel(this.#session, 'manager'), sessionId: this.#sessionId }
      : undefined;

  /** Whether a client of this session may use the pod's network; false when the manager cannot be asked. */
  readonly isClient = async (sessionId: string): Promise<boolean> => {
    if (!this.#session || this.#session.destroyed) {
      return false;
    }
    const transport = createCallTransport(this.#session);
    try {
      const question = { agentSessionId: this.#sessionId ?? '', clientSessionId: sessionId };
      return (await createClient(Sessions, transport).mayDial(question, { timeoutMs: callTimeoutMs })).allowed;
    } catch (error) {
      if (!(error instanceof ConnectError) || error.code !== Code.Unimplemented) {
        return false;
      }
    }
    const manager = createClient(wire.Manager, transport);
    // The one question about a session that every manager answers; it also renews it, which a live client does itself.
    return await manager.remain({ session: { sessionId } }, { timeoutMs: callTimeoutMs }).then(
      () => true,
      () => false,
    );
  };

  /** Departs, with a short limit: the pod is ending. */
  async dispose(): Promise<void> {
    if (this.#session && this.#sessionId) {
      const manager = createClient(wire.Manager, createCallTransport(this.#session));
      await manager.depart({ sessionId: this.#sessionId }, { timeoutMs: 1_000 }).catch(() => undefined);
    }
    this.#controller.abort();
    this.#session?.destroy();
    await this.#loop?.catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { clock, log, onIntercepts } = this.#options;
    const { signal } = this.#controller;
    let lostAt: number | undefined;
    while (!signal.aborted) {
      try {
        await this.#connectOnce(() => {
          lostAt = undefined;
        });
      } catch (error) {
        log.debug('the connection to the traffic-manager ended', { error });
      }
      this.#session?.destroy();
      this.#session = undefined;
      lostAt ??= clock.nowMs();
      if (clock.nowMs() - lostAt > graceMs) {
        onIntercepts([]);
      }
      await sleep(clock, retryMs, signal).catch(() => undefined);
    }
  }

  async #connectOnce(connected: () => void): Promise<void> {
    const { host, port, localAddress, clock } = this.#options;
    const { signal } = this.#controller;
    this.#session = await openHttp2({ host, port, localAddress }, { clock, signal });
    const manager = createClient(wire.Manager, createCallTransport(this.#session));
    await manager.version({}, { timeoutMs: callTimeoutMs });
    const session = { sessionId: await this.#arrive(manager) };
    connected();
    const watch = new AbortController();
    const abort = (): void => watch.abort();
    signal.addEventListener('abort', abort, { once: true });
    void this.#whileServed(() => this.#watchDials(manager, session, watch.signal), watch.signal);
    void this.#whileServed(() => this.#watchNames(manager, session, watch.signal), watch.signal);
    void this.#whileServed(() => this.#watchLogLevel(manager, watch.signal), watch.signal);
    try {
      await Promise.race([
        this.#watchIntercepts(manager, session, watch.signal),
        this.#remain(manager, session, watch.signal),
      ]);
    } finally {
      signal.removeEventListener('abort', abort);
      watch.abort();
    }
  }

  /** The session id stays the same over reconnections; a manager that cannot reconnect gets a new arrival. */
  async #arrive(manager: Manager): Promise<string> {
    const containers: Record<string, wire.ContainerInfo> = {};
    for (const [name, environment] of Object.entries(await this.#options.environments())) {
      containers[name] = create(wire.ContainerInfoSchema, { environment, ...this.#options.mountsOf(name) });
    }
    const info = { ...this.#options.info, containers };
    if (this.#sessionId) {
      try {
        await manager.reconnectAgent(
          { session: { sessionId: this.#sessionId }, agent: info },
          { timeoutMs: callTimeoutMs },
        );
        return this.#sessionId;
      } catch (error) {
        if (!(error instanceof ConnectError) || error.code === Code.Unavailable) {
          throw error;
        }
      }
    }
    const { sessionId } = await manager.arriveAsAgent(info, { timeoutMs: callTimeoutMs });
    this.#sessionId = sessionId || this.#sessionId;
    return this.#sessionId ?? '';
  }

  async #remain(manager: Manager, session: { sessionId: string }, signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#options.clock, remainPeriodMs, signal);
      await manager.remain({ session }, { timeoutMs: callTimeoutMs });
    }
  }

  /** A watch that a manager need not have: newer ones do all of it themselves. */
  async #whileServed(watch: () => Promise<void>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await watch();
      } catch (error) {
        if (error instanceof ConnectError && error.code === Code.Unimplemented) {
          return;
        }
      }
      await sleep(this.#options.clock, retryMs, signal).catch(() => undefined);
    }
  }

  async #watchDials(manager: Manager, session: { sessionId: string }, signal: AbortSignal): Promise<void> {
    for await (const request of manager.watchDial(session, { signal })) {
      const id = parseConnId(request.connId);
      const opened = this.openTunnel();
      if (id && opened) {
        const info: StreamInfo = {
          id,
          sessionId: opened.sessionId,
          dialTimeoutMs: Number(request.dialTimeout) / 1e6,
          roundtripLatencyMs: Number(request.roundtripLatency) / 1e6,
        };
        opened.stream.send(tunnelCode.streamInfo, serializeStreamInfo(info));
        this.#options.dialFor(opened.stream, info);
      }
    }
  }

  async #watchNames(manager: Manager, session: { sessionId: string }, signal: AbortSignal): Promise<void> {
    for await (const request of manager.watchLookupDNS(session, { signal })) {
      void this.#options
        .lookup(request.name, request.type)
        .then((response) =>
          manager.agentLookupDNSResponse({ session, request, response }, { timeoutMs: callTimeoutMs }),
        )
        .catch(() => undefined);
    }
  }

  async #watchLogLevel(manager: Manager, signal: AbortSignal): Promise<void> {
    for await (const { logLevel, duration } of manager.watchLogLevel({}, { signal })) {
      this.#options.onLogLevel(logLevel, Number(duration?.seconds ?? 0n) * 1_000 + (duration?.nanos ?? 0) / 1e6);
    }
  }

  async #watchIntercepts(manager: Manager, session: { sessionId: string }, signal: AbortSignal): Promise<void> {
    for await (const { intercepts } of manager.watchIntercepts(session, { signal })) {
      const reviews = this.#options.onIntercepts(intercepts);
      this.#options.onServing();
      for (const review of reviews) {
        await this.#review(manager, session, review);
      }
    }
  }

  async #review(
    manager: Manager,
    session: { sessionId: string },
    { id, containerName, conflict, fault, description }: Review,
  ): Promise<void> {
    const { info, environments, mountsOf, clock } = this.#options;
    const isRefused = fault !== undefined || conflict !== undefined;
    const environment = isRefused ? {} : ((await environments())[containerName] ?? {});
    const request = create(wire.ReviewInterceptRequestSchema, {
      session,
      id,
      podIp: info.podIp,
      ...(isRefused
        ? { disposition: AGENT_ERROR, message: fault ?? `Conflicts with the currently-served intercept ${conflict}` }
        : {
            disposition: ACTIVE,
            mechanismArgsDesc: description,
            environment,
            sftpPort: info.sftpPort,
            ...mountsOf(containerName),
          }),
    });
    await withTimeout(clock, callTimeoutMs, 'the review', () => manager.reviewIntercept(request)).catch(
      (error: unknown) => {
        if (!(error instanceof ConnectError) || error.code !== Code.NotFound) {
          throw error;
        }
      },
    );
  }
}
