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
  openHttp2,
  openMux,
  pingNow,
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
  readonly tunnels: ClientHttp2Session;
  /** How the pod was reached; undefined when nobody can tell. */
  readonly way: ManagerWay | undefined;
  /** Resolves when either half is gone. */
  readonly closed: Promise<void>;
  /** Ends at once unless both halves answer within seconds. */
  check(): void;
  close(): void;
  /** Shows who we are on the half that carries tunnels, which do not say it themselves. */
  introduce(sessionId: string): Promise<void>;
  /** Has the tunnels of this session go in one stream, where the manager knows how to. */
  carry(sessionId: string): Promise<void>;
  /** That stream, while there is one. */
  readonly mux: Mux | undefined;
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
  let calls: ClientHttp2Session;
  let tunnels: ClientHttp2Session;
  const close = (): void => {
    for (const session of sessions) {
      session.destroy();
    }
    for (const forward of forwards) {
      forward.destroy();
    }
  };
  try {
    const open = async (): Promise<ClientHttp2Session> => {
      const where = { namespace, pod, port, signal: both };
      const forward = isSealed
        ? await kube.openPortForward(where)
        : await kube.connectToPod({ ...where, upgrade: http2Upgrade });
      forwards.push(forward);
      const session = await openHttp2(forward, { clock, signal: both });
      sessions.push(session);
      return session;
    };
    let why: unknown;
    const half = (): Promise<ClientHttp2Session | undefined> =>
      open().catch((error: unknown) => {
        // The other one must not come up afterwards, and stay.
        why ??= error;
        failed.abort();
        return undefined;
      });
    const [first, second] = await Promise.all([half(), half()]);
    if (!first || !second) {
      throw why;
    }
    [calls, tunnels] = [first, second];
  } catch (error) {
    close();
    throw error;
  }
  const closed = Promise.race(
    [calls, tunnels].map((session) => new Promise<void>((resolve) => session.once('close', () => resolve()))),
  );
  void closed.then(close);
  const check = (): void => {
    for (const session of sessions) {
      pingNow(session, clock);
    }
  };
  const transportOf = (session: ClientHttp2Session): Transport =>
    createCallTransport(session, { authorization: options.authorization });
  const introduce = async (sessionId: string): Promise<void> => {
    await createClient(wire.Manager, transportOf(tunnels)).remain(
      { session: { sessionId } },
      { signal, timeoutMs: introduceTimeoutMs },
    );
  };
  let mux: Mux | undefined;
  const carry = async (sessionId: string): Promise<void> => {
    mux = await openMux(tunnels, { clock, service: 'manager', sessionId, signal });
    void mux?.closed.then(() => {
      mux = undefined;
    });
  };
  const transport = transportOf(calls);
  const manager = createClient(wire.Manager, transport);
  const way = isSealed ? 'sealed' : kube.wayTo(namespace);
  const workloads = createClient(Workloads, transport);
  return {
    ...{ manager, workloads, tunnels, way, closed, check, close, introduce, carry },
    get mux() {
      return mux;
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
