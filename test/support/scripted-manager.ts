import { connect } from 'node:net';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, type HandlerContext } from '@connectrpc/connect';
import { Emitter, silentLogger, systemClock } from '../../src/base/index.ts';
import { ManagerSession, type SessionOptions } from '../../src/connector/session/session.ts';
import type { Kind, Kube } from '../../src/kube/index.ts';
import {
  type ConnId,
  managerName,
  parseStreamInfo,
  type StreamInfo,
  serializeConnId,
  serializeStreamOk,
  tunnelCode,
  wire,
} from '../../src/protocol/index.ts';
import { callerKey, createGrpcServer, type GrpcServer, type TunnelStream } from '../../src/protocol/transport/index.ts';

const { ACTIVE, WAITING } = wire.InterceptDispositionType;
type Init<
  S extends
    | typeof wire.PreparedInterceptSchema
    | typeof wire.AgentInfoSchema
    | typeof wire.AgentPodInfoSchema
    | typeof wire.VersionInfo2Schema,
> = MessageInitShape<S>;

/** What a fetched connection looks like from the cluster's side. */
export interface Fetched {
  readonly info: StreamInfo;
  /** Control codes in order. */
  readonly codes: readonly number[];
  /** Datagrams or pieces of a stream, as text. */
  readonly data: readonly string[];
  readonly isEnded: boolean;
  readonly stream: TunnelStream;
}

/** A traffic-manager in this process, over real HTTP/2, that does what a test tells it and remembers what it was asked. */
export class ScriptedManager {
  version: Init<typeof wire.VersionInfo2Schema> = { name: managerName, version: 'v2.24.0' };
  readonly prepared: wire.InterceptSpec[] = [];
  readonly created: wire.InterceptSpec[] = [];
  readonly removed: string[] = [];
  readonly logLevels: string[] = [];
  readonly ensured: string[] = [];
  readonly fetched: Fetched[] = [];
  /** What PrepareIntercept answers. */
  answer: Init<typeof wire.PreparedInterceptSchema> = {
    namespace: 'shop',
    serviceUid: 'uid-web',
    serviceName: 'web',
    servicePortName: 'http',
    servicePort: 80,
    workloadKind: 'Deployment',
    protocol: 'TCP',
    containerName: 'server',
    containerPort: 8080,
  };
  /** What an agent says of a new intercept; undefined: it waits. */
  review: { readonly disposition: number; readonly message?: string } | undefined = { disposition: ACTIVE };
  environment: Record<string, string> = { GREETING: 'hello' };
  podIp = '10.0.0.1';
  /** What EnsureAgent answers. */
  agents: Init<typeof wire.AgentInfoSchema>[] = [];
  /** The agents that a client may connect to. */
  pods: Init<typeof wire.AgentPodInfoSchema>[] = [];
  /** The pods that the client has opened a connection to, in order. */
  readonly forwarded: string[] = [];
  /** Those of them by a port-forward. */
  readonly sealed: string[] = [];
  /** From where the calls came that showed a token. */
  readonly shownFrom = new Set<string>();
  readonly intercepts = new Map<string, wire.InterceptInfo>();
  readonly #changed = new Emitter<void>();
  readonly #dials = new Emitter<wire.DialRequest>();
  readonly #grpc: GrpcServer;
  #port = 0;

  private constructor() {
    this.#grpc = createGrpcServer({
      clock: systemClock,
      service: 'manager',
      acceptTunnel: (stream) => this.#accept(stream),
      routes: (router) =>
        router.service(wire.Manager, {
          version: () => this.version,
          getAgentImageFQN: () => ({ fQN: 'image' }),
          arriveAsClient: (_request, context) => {
            this.#look(context);
            return { sessionId: 'session' };
          },
          remain: (_request, context) => {
            this.#look(context);
            return {};
          },
          depart: () => ({}),
          setLogLevel: ({ logLevel, duration }) => {
            this.logLevels.push(`${logLevel} for ${duration?.seconds} s`);
            return {};
          },
          watchClusterInfo: (_, { signal }) =>
            following(this.#changed, signal, () => create(wire.ClusterInfoSchema, { dns: {} })),
          watchIntercepts: (_, { signal }) =>
            following(this.#changed, signal, () =>
              create(wire.InterceptInfoSnapshotSchema, { intercepts: [...this.intercepts.values()] }),
            ),
          watchAgentPods: (_, { signal }) =>
            following(this.#changed, signal, () => create(wire.AgentPodInfoSnapshotSchema, { agents: this.pods })),
          watchDial: (_, { signal }) => queued(this.#dials, signal),
          prepareIntercept: ({ interceptSpec }) => {
            this.prepared.push(interceptSpec ?? create(wire.InterceptSpecSchema));
            return this.answer;
          },
          createIntercept: ({ interceptSpec }) => this.#create(interceptSpec ?? create(wire.InterceptSpecSchema)),
          removeIntercept: ({ name }) => {
            this.removed.push(name);
            this.remove(name);
            return {};
          },
          ensureAgent: ({ name, namespace }) => {
            this.ensured.push(`${namespace}/${name}`);
            return { agents: this.agents };
          },
        }),
    });
  }

  static async open(): Promise<ScriptedManager> {
    const made = new ScriptedManager();
    made.#port = await made.#grpc.listen(0, '127.0.0.1');
    return made;
  }

  close(): Promise<void> {
    return this.#grpc.close();
  }

  #look({ requestHeader, values }: HandlerContext): void {
    if (requestHeader.has('authorization')) {
      this.shownFrom.add(values.get(callerKey).address);
    }
  }

  /** A client's session with this manager, through what it takes for a cluster. */
  connect(options: Partial<SessionOptions> = {}, kube: Partial<Kube> = {}): Promise<ManagerSession> {
    const all = { ...kubeOf(this.#port, this.forwarded, this.sealed), ...kube };
    return connectSession(this.#port, { kube: all, ...options });
  }

  remove(name: string): void {
    this.intercepts.delete(name);
    this.#changed.fire();
  }

  settle(name: string, review: { readonly disposition: number; readonly message?: string }): void {
    const found = this.intercepts.get(name);
    if (found) {
      this.intercepts.set(name, { ...found, ...review });
      this.#changed.fire();
    }
  }

  /** Asks the client to fetch a caller's connection. */
  dial(id: ConnId): void {
    const connId = serializeConnId(id);
    this.#dials.fire(create(wire.DialRequestSchema, { connId, dialTimeout: 5_000_000_000n, roundtripLatency: 1n }));
  }

  #create(spec: wire.InterceptSpec): wire.InterceptInfo {
    this.created.push(spec);
    if (this.intercepts.has(spec.name)) {
      throw new ConnectError(`an intercept named ${spec.name} already exists`, Code.AlreadyExists);
    }
    const info = create(wire.InterceptInfoSchema, {
      id: `session:${spec.name}`,
      spec,
      disposition: WAITING,
      clientSession: { sessionId: 'session' },
      podIp: this.podIp,
      environment: this.environment,
      ...this.review,
    });
    this.intercepts.set(spec.name, info);
    this.#changed.fire();
    return info;
  }

  #accept(stream: TunnelStream): void {
    let fetched: (Fetched & { codes: number[]; data: string[]; isEnded: boolean }) | undefined;
    let text = '';
    stream.start({
      onControl: (code, body) => {
        const info = code === tunnelCode.streamInfo ? parseStreamInfo(body) : undefined;
        if (info) {
          fetched = { info, codes: [], data: [], isEnded: false, stream };
          this.fetched.push(fetched);
          stream.send(tunnelCode.streamOk, serializeStreamOk());
        } else {
          fetched?.codes.push(code);
        }
      },
      onData: (slice, last) => {
        text += Buffer.from(slice).toString();
        if (last) {
          fetched?.data.push(text);
          text = '';
        }
      },
      onEnd: () => {
        if (fetched) {
          fetched.isEnded = true;
        }
        stream.finish();
      },
      onDrain: () => undefined,
      onClose: () => undefined,
    });
  }
}

/** A client's session with a manager that listens on a port of this machine, through what it takes for a cluster. */
export async function connectSession(port: number, options: Partial<SessionOptions> = {}): Promise<ManagerSession> {
  const session = new ManagerSession({
    kube: kubeOf(port),
    namespace: 'shop',
    managerNamespace: 'ambassador',
    installId: 'install',
    clock: systemClock,
    log: silentLogger,
    isAllowed: () => false,
    ...options,
  });
  await session.open();
  return session;
}

/** Where a client comes from that has come by a port-forward. */
export const sealedAddress = '127.0.0.2';

function kubeOf(port: number, forwarded: string[] = [], sealed: string[] = []): Kube {
  return {
    bearerToken: async () => undefined,
    get: async (kind: Kind) =>
      kind.kind === 'Service' ? { spec: { selector: { app: 'traffic-manager' } } } : undefined,
    list: async () => [
      { metadata: { name: 'traffic-manager-0' }, status: { conditions: [{ type: 'Ready', status: 'True' }] } },
    ],
    wayTo: () => 'proxy',
    connectToPod: async ({ pod }: { pod: string }) => {
      forwarded.push(pod);
      return connect({ host: '127.0.0.1', port });
    },
    openPortForward: async ({ pod }: { pod: string }) => {
      forwarded.push(pod);
      sealed.push(pod);
      return connect({ host: '127.0.0.1', port, localAddress: sealedAddress });
    },
  } as unknown as Kube;
}

/** The present value, and again whenever something changes. */
async function* following<T>(changed: Emitter<void>, signal: AbortSignal, value: () => T): AsyncGenerator<T> {
  let wake: () => void = () => undefined;
  let isDirty = true;
  const subscription = changed.event(() => {
    isDirty = true;
    wake();
  });
  const abort = (): void => wake();
  signal.addEventListener('abort', abort, { once: true });
  try {
    while (!signal.aborted) {
      if (isDirty) {
        isDirty = false;
        yield value();
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    void subscription.dispose();
  }
}

/** Every item that is fired. */
async function* queued<T>(source: Emitter<T>, signal: AbortSignal): AsyncGenerator<T> {
  const items: T[] = [];
  const arrived = new Emitter<void>();
  const subscription = source.event((item) => {
    items.push(item);
    arrived.fire();
  });
  try {
    for await (const _ of following(arrived, signal, () => undefined)) {
      while (items.length > 0) {
        yield items.shift() as T;
      }
    }
  } finally {
    void subscription.dispose();
  }
}
