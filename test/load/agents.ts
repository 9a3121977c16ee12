import { create } from '@bufbuild/protobuf';
import { ManagerLink } from '../../src/agent/manager/link.ts';
import { type Diversion, decide } from '../../src/agent/port/diversion.ts';
import { Diverter } from '../../src/agent/tunnel/diverter.ts';
import { toDuplex } from '../../src/agent/tunnel/duplex.ts';
import { type Disposable, silentLogger, systemClock, withTimeout } from '../../src/base/index.ts';
import type { Informer, V1Pod } from '../../src/kube/index.ts';
import { type SidecarConfig, wire, wireVersion } from '../../src/protocol/index.ts';

const configAnnotation = 'telepresence.io/agent-config';
const apiPort = 9_000;
const answerLimitMs = 15_000;

/** One pod's traffic-agent: the real one's link to the manager, without the pod's ports. */
class SimulatedAgent {
  readonly #link: ManagerLink;
  readonly #diverter: Diverter;
  diversions: readonly Diversion[] = [];

  constructor(pod: V1Pod, config: SidecarConfig, managerAddress: () => string) {
    const { name = '', uid = '' } = pod.metadata ?? {};
    const podIp = pod.status?.podIP ?? '';
    const environment = Object.fromEntries(
      Array.from({ length: 30 }, (_, number) => [`VARIABLE_${number}`, `value ${number} of ${name}`]),
    );
    this.#diverter = new Diverter(systemClock, silentLogger, () => this.#link.openTunnel());
    this.#link = new ManagerLink({
      get host() {
        return managerAddress();
      },
      port: config.managerPort,
      localAddress: podIp,
      clock: systemClock,
      log: silentLogger,
      info: create(wire.AgentInfoSchema, {
        ...{ name: config.agentName, namespace: config.namespace, kind: config.workloadKind },
        ...{ podIp, podName: name, podUid: uid, product: 'nearfield', version: wireVersion, apiPort },
        mechanisms: ['tcp', 'http'].map((each) => ({ name: each, product: 'nearfield', version: wireVersion })),
      }),
      environments: async () => ({ server: environment }),
      mountsOf: () => ({ mountPoint: '', mounts: {} }),
      onIntercepts: (intercepts) => {
        const { plans, reviews } = decide(config, intercepts);
        this.diversions = [...plans.values()].flatMap(({ whole }) => (whole ? [whole] : []));
        return reviews;
      },
      onServing: () => undefined,
      onLogLevel: () => undefined,
      dialFor: (stream) => stream.reset(),
      lookup: async () => ({ rCode: 2, rrs: new Uint8Array(0) }),
    });
    this.#link.start();
  }

  /** A caller of the pod: rejects when the developer's program does not answer. */
  async call(diversion: Diversion, callerPort: number): Promise<void> {
    const caller = { protocol: 'tcp', address: '10.97.255.1', port: callerPort } as const;
    await withTimeout(systemClock, answerLimitMs, 'a diverted call', async (signal) => {
      const tunnel = await this.#diverter.open(caller, diversion).taken;
      if (!tunnel) {
        throw new Error('nobody took the call');
      }
      const duplex = toDuplex(tunnel);
      signal.addEventListener('abort', () => duplex.destroy(), { once: true });
      duplex.end('hello');
      let answer = '';
      for await (const chunk of duplex) {
        answer += String(chunk);
      }
      if (answer !== 'hello') {
        throw new Error('the answer was not the developer’s');
      }
    });
  }

  async end(): Promise<void> {
    await this.#link.dispose();
  }
}

/** An agent for every pod that the injector has given one. */
export class SimulatedAgents implements Disposable {
  readonly #agents = new Map<string, SimulatedAgent>();
  readonly #subscription: Disposable;
  #calls = 0;

  constructor(pods: Informer<V1Pod>, managerAddress: () => string) {
    const follow = (pod: V1Pod, isGone: boolean): void => {
      const uid = pod.metadata?.uid ?? '';
      const config = pod.metadata?.annotations?.[configAnnotation];
      if (isGone || pod.metadata?.deletionTimestamp) {
        void this.#agents.get(uid)?.end();
        this.#agents.delete(uid);
      } else if (config && pod.status?.podIP && !this.#agents.has(uid)) {
        this.#agents.set(uid, new SimulatedAgent(pod, JSON.parse(config) as SidecarConfig, managerAddress));
      }
    };
    for (const pod of pods.items.values()) {
      follow(pod, false);
    }
    this.#subscription = pods.onItemChanged(({ type, object }) => follow(object, type === 'deleted'));
  }

  get count(): number {
    return this.#agents.size;
  }

  /** A call to whatever this intercept diverts. */
  async call(interceptId: string): Promise<void> {
    for (const agent of this.#agents.values()) {
      const diversion = agent.diversions.find((each) => each.interceptId === interceptId);
      if (diversion) {
        this.#calls = (this.#calls + 1) % 50_000;
        await agent.call(diversion, 10_000 + this.#calls);
        return;
      }
    }
    throw new Error('no agent diverts it');
  }

  dispose(): void {
    void this.#subscription.dispose();
    for (const agent of this.#agents.values()) {
      void agent.end();
    }
    this.#agents.clear();
  }
}
