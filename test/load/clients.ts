import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { create } from '@bufbuild/protobuf';
import { type Event, parseIp, silentLogger, systemClock, withTimeout } from '../../src/base/index.ts';
import { lookupName } from '../../src/connector/session/lookup.ts';
import { ManagerSession } from '../../src/connector/session/session.ts';
import type { Kube } from '../../src/kube/index.ts';
import { tunnelCode, wire } from '../../src/protocol/index.ts';
import { type ManagerPod, managerNamespace } from './manager-pod.ts';
import type { WorkloadName } from './workloads.ts';

const { ACTIVE } = wire.InterceptDispositionType;
const activeLimitMs = 45_000;
const tunnelLimitMs = 10_000;

export interface ClientDeps {
  readonly manager: ManagerPod;
  /** The address that this client's connections come from. */
  readonly localAddress: string;
  readonly namespaces: readonly string[];
  readonly number: number;
  /** The developer's program, and a service of the cluster. */
  readonly echoPort: number;
  readonly serviceAddress: string;
}

/** One developer: the connector's own session with the manager, over a bare connection in place of a port-forward. */
export class SimulatedClient {
  readonly #deps: ClientDeps;
  readonly #session: ManagerSession;
  readonly held = new Map<string, WorkloadName>();
  isConnected = false;

  constructor(deps: ClientDeps) {
    this.#deps = deps;
    this.#session = new ManagerSession({
      kube: kubeOf(deps),
      namespace: deps.namespaces[deps.number % deps.namespaces.length] ?? '',
      managerNamespace,
      installId: randomUUID(),
      clock: systemClock,
      log: silentLogger,
      isAllowed: () => true,
    });
    this.#session.onStateChanged(({ kind }) => {
      this.isConnected = kind === 'connected';
    });
  }

  get id(): string {
    return this.#session.sessionId;
  }

  get onWorkloadsChanged(): Event<{ namespace: string; events: readonly wire.WorkloadEvent[]; isFirst: boolean }> {
    return this.#session.onWorkloadsChanged;
  }

  async open(): Promise<void> {
    this.#session.watchNamespaces(this.#deps.namespaces);
    await this.#session.open();
  }

  async close(): Promise<void> {
    await this.#session.close();
  }

  isActive(name: string): boolean {
    return this.#session.intercepts.some(({ spec, disposition }) => spec?.name === name && disposition === ACTIVE);
  }

  /** Resolves when the attachment is active and this client knows it. */
  async attach(workload: WorkloadName): Promise<void> {
    const { echoPort } = this.#deps;
    const spec = create(wire.InterceptSpecSchema, {
      ...{ name: workload.name, client: this.#session.clientName, agent: workload.name, mechanism: 'tcp' },
      ...{ namespace: workload.namespace, workloadKind: 'Deployment', portIdentifier: 'http' },
      ...{ targetHost: '127.0.0.1', targetPort: echoPort },
    });
    this.held.set(spec.name, workload);
    await this.#session.call(
      'attaching',
      (manager, signal) =>
        manager.createIntercept({ session: { sessionId: this.id }, interceptSpec: spec }, { signal }),
      activeLimitMs,
    );
    await withTimeout(
      systemClock,
      activeLimitMs,
      'becoming active',
      () =>
        new Promise<void>((resolve) => {
          const look = (): void => {
            if (this.isActive(spec.name)) {
              void subscription.dispose();
              resolve();
            }
          };
          const subscription = this.#session.onInterceptsChanged(look);
          look();
        }),
    );
  }

  async leave(name: string): Promise<void> {
    this.held.delete(name);
    await this.#session.call('leaving', (manager, signal) =>
      manager.removeIntercept({ session: { sessionId: this.id }, name }, { signal }),
    );
  }

  async lookup(name: string): Promise<void> {
    const { rcode, records } = await lookupName(this.#session, name, 1);
    if (rcode !== 0 || records.length === 0) {
      throw new Error(`the name had code ${rcode}`);
    }
  }

  /** Calls a service of the cluster through the manager. */
  async callService(): Promise<void> {
    const { tunnels } = this.#session;
    if (!tunnels) {
      throw new Error('not connected');
    }
    const { echoPort, serviceAddress, localAddress, number } = this.#deps;
    const source = parseIp(localAddress);
    const destination = parseIp(serviceAddress);
    if (!source || !destination) {
      throw new Error('no address');
    }
    const id = { protocol: 'tcp', source, sourcePort: 1 + number, destination, destinationPort: echoPort } as const;
    const info = { id, sessionId: this.id, dialTimeoutMs: 5_000, roundtripLatencyMs: 0 };
    const stream = tunnels.tunnels.open(info);
    if (!stream) {
      throw new Error('no tunnels are taken');
    }
    await withTimeout(
      systemClock,
      tunnelLimitMs,
      'a call through the manager',
      (signal) =>
        new Promise<void>((resolve, reject) => {
          let answer = '';
          signal.addEventListener('abort', () => stream.reset(), { once: true });
          stream.start({
            onControl: (code) => {
              if (code === tunnelCode.dialOk) {
                stream.sendData(Buffer.from('hello'));
                stream.endSend();
              }
            },
            onData: (slice) => {
              answer += String(Buffer.from(slice));
            },
            onEnd: () => stream.finish(),
            onDrain: () => undefined,
            onClose: (error) =>
              answer === 'hello' && !error ? resolve() : reject(error ?? new Error(`the answer was ${answer}`)),
          });
        }),
    );
  }
}

/** What the connector asks of Kubernetes: where the manager is, and a connection to it; agents' pods are out of reach. */
function kubeOf({ manager, localAddress }: ClientDeps): Kube {
  return {
    bearerToken: async () => undefined,
    get: async () => ({ spec: { selector: { app: 'traffic-manager' } } }),
    list: async () => (manager.running ? [manager.running] : []),
    wayTo: () => undefined,
    connectToPod: async ({ namespace, port }: { namespace: string; port: number }) => {
      if (namespace !== managerNamespace) {
        throw new Error('forbidden');
      }
      const socket = connect({ host: manager.address, port, localAddress, noDelay: true });
      await once(socket, 'connect');
      return socket;
    },
  } as unknown as Kube;
}
