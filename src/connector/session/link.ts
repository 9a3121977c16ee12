import type { ClientHttp2Session } from 'node:http2';
import type { Duplex } from 'node:stream';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import type { Clock } from '../../base/index.ts';
import { type Kube, kinds, type V1Pod, type V1Service } from '../../kube/index.ts';
import { Workloads, wire } from '../../protocol/index.ts';
import {
  createCallTransport,
  http2Upgrade,
  type Mux,
  muxUpgrade,
  openHttp2,
  openMux,
  pingNow,
  type TunnelOpener,
  tunnelCalls,
} from '../../protocol/transport/index.ts';
import type { ManagerWay } from '../contract.ts';
import { managerMissing, managerNotRunning } from '../errors.ts';

const defaultApiPort = 8081;
const introduceTimeoutMs = 10_000;

/**
 * One connection to the traffic-manager: two ways to its pod, one for calls and one for tunnels, so that a name never
 * waits behind a download. It ends as a whole; a new one is made then.
 */
export interface ManagerLink {
  readonly manager: Client<typeof wire.Manager>;
  /** Ours, beside the contract: a manager of somebody else has it not. */
  readonly workloads: Client<typeof Workloads>;
  /** The half that carries tunnels, once it has begun to. */
  readonly tunnels: TunnelOpener | undefined;
  /** How the pod was reached; undefined when nobody can tell. */
  readonly way: ManagerWay | undefined;
  /** Resolves when either half is gone. */
  readonly closed: Promise<void>;
  /** Ends at once unless both halves answer within seconds. */
  check(): void;
  close(): void;
  /** Begins with the tunnels of this session: all in one connection where the manager knows how to, else a call for each. */
  carry(sessionId: string): Promise<void>;
}

export interface LinkOptions {
  readonly kube: Kube;
  readonly managerNamespace: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** The metadata of calls; undefined while nothing is to be shown. */
  readonly authorization: () => Promise<string | undefined>;
  /** By port-forward, which is TLS as far as the pod's own node. Otherwise it may cross the cluster's network in clear. */
  readonly isSealed?: boolean;
}

/** Errors: `connector.manager-missing`, `connector.manager-not-running`, and those of kube. */
export async function openManagerLink(options: LinkOptions): Promise<ManagerLink> {
  const { kube, clock, signal, isSealed = false } = options;
  const { pod, namespace, port } = await findManager(kube, options.managerNamespace);
  const forwards: Duplex[] = [];
  const sessions: ClientHttp2Session[] = [];
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  let mux: Mux | undefined;
  let tunnels: TunnelOpener | undefined;
  const { promise: closed, resolve: end } = Promise.withResolvers<void>();
  const close = (): void => {
    mux?.close();
    for (const each of [...sessions, ...forwards]) {
      each.destroy();
    }
  };
  void closed.then(close);
  const forward = async (upgrade: typeof http2Upgrade | typeof muxUpgrade): Promise<Duplex> => {
    const where = { namespace, pod, port, signal: both };
    const duplex = isSealed ? await kube.openPortForward(where) : await kube.connectToPod({ ...where, upgrade });
    forwards.push(duplex);
    duplex.on('error', () => undefined);
    return duplex;
  };
  const openSession = async (): Promise<ClientHttp2Session> => {
    const session = await openHttp2(await forward(http2Upgrade), { clock, signal: both });
    sessions.push(session);
    session.once('close', end);
    return session;
  };
  let why: unknown;
  const half = <T>(opening: Promise<T>): Promise<T | undefined> =>
    opening.catch((error: unknown) => {
      // The other one must not come up afterwards, and stay.
      why ??= error;
      failed.abort();
      return undefined;
    });
  const [calls, waiting] = await Promise.all([half(openSession()), half(forward(muxUpgrade))]);
  if (!calls || !waiting) {
    close();
    throw why;
  }
  const transportOf = (session: ClientHttp2Session): Transport =>
    createCallTransport(session, { authorization: options.authorization });
  const carry = async (sessionId: string): Promise<void> => {
    // It was opened beside the other one, and may have been given up while nobody spoke.
    const duplex = waiting.destroyed ? await forward(muxUpgrade) : waiting;
    const authorization = await options.authorization();
    mux = await openMux(duplex, { clock, sessionId, authorization, signal });
    if (mux) {
      void mux.closed.then(() => end());
      tunnels = mux;
      return;
    }
    const session = await openSession();
    if (authorization !== undefined) {
      // Tunnels do not say who opens them.
      await createClient(wire.Manager, transportOf(session)).remain(
        { session: { sessionId } },
        { signal, timeoutMs: introduceTimeoutMs },
      );
    }
    tunnels = tunnelCalls(session, 'manager');
  };
  const check = (): void => {
    mux?.check();
    for (const session of sessions) {
      pingNow(session, clock);
    }
  };
  const transport = transportOf(calls);
  const manager = createClient(wire.Manager, transport);
  const way = isSealed ? 'sealed' : kube.wayTo(namespace);
  const workloads = createClient(Workloads, transport);
  return {
    ...{ manager, workloads, way, closed, check, close, carry },
    get tunnels() {
      return tunnels;
    },
  };
}

async function findManager(kube: Kube, namespace: string): Promise<{ pod: string; namespace: string; port: number }> {
  const service = await kube.get<V1Service>(kinds.service, 'traffic-manager', namespace);
  if (!service) {
    throw managerMissing(namespace);
  }
  const labelSelector = Object.entries(service.spec?.selector ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
  const pods = await kube.list<V1Pod>(kinds.pod, { namespace, labelSelector });
  const running = pods.find(
    (pod) =>
      !pod.metadata?.deletionTimestamp &&
      pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'),
  );
  if (!running?.metadata?.name) {
    throw managerNotRunning(namespace);
  }
  const api = running.spec?.containers.flatMap((container) => container.ports ?? []).find(({ name }) => name === 'api');
  return { pod: running.metadata.name, namespace, port: api?.containerPort ?? defaultApiPort };
}
