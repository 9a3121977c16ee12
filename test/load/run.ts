import { createServer } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { systemClock } from '../../src/base/index.ts';
import { loadKube } from '../../src/kube/index.ts';
import { wire } from '../../src/protocol/index.ts';
import { run, step, waitFor } from '../cluster/shell.ts';
import { SimulatedAgents } from './agents.ts';
import { SimulatedClient } from './clients.ts';
import { addresses, SimulatedKubelet, simulatedRange } from './kubelet.ts';
import { untilAllSee } from './latency.ts';
import { ManagerPod } from './manager-pod.ts';
import { Samples, timed } from './numbers.ts';
import type { LoadOptions } from './options.ts';
import { type LoadReport, MemoryLine, type RestartReport } from './report.ts';
import { forEach, type WorkloadName, Workloads } from './workloads.ts';

const settleLimitMs = 1_800_000;
const backLimitMs = 120_000;
const answerLimitMs = 30_000;
const maxAttempts = 5;
const { INTERCEPTED } = wire.WorkloadInfo_AgentState;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(Math.random() * items.length)];

/** Everything that is simulated, and what is done to it. Runs in the network of the cluster's node. */
export class Load {
  readonly #options: LoadOptions;
  readonly #kubelet: SimulatedKubelet;
  readonly #workloads: Workloads;
  readonly #manager: ManagerPod;
  readonly #clientAddress = addresses(0);
  readonly #echo = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  #agents: SimulatedAgents | undefined;
  readonly #clients: SimulatedClient[] = [];
  readonly #free: WorkloadName[] = [];
  readonly #others: WorkloadName[] = [];
  readonly #samples = {
    workloads: new Samples(),
    attached: new Samples(),
    attach: new Samples(),
    leave: new Samples(),
    names: new Samples(),
    services: new Samples(),
    diverted: new Samples(),
    arrive: new Samples(),
  };
  #isSteady = true;
  /** Changes that are under way, of those that happen one after the other. */
  #busy = 0;
  /** Leaves one workload and attaches to the next. */
  #moving: SimulatedClient | undefined;
  #isOver = false;
  #nextClient = 0;

  private constructor(
    options: LoadOptions,
    parts: { kubelet: SimulatedKubelet; workloads: Workloads; manager: ManagerPod },
  ) {
    this.#options = options;
    this.#kubelet = parts.kubelet;
    this.#workloads = parts.workloads;
    this.#manager = parts.manager;
  }

  static async open(options: LoadOptions, kubeconfig: string): Promise<Load> {
    const kube = loadKube({ kubeconfig });
    await run('ip', ['route', 'replace', 'local', simulatedRange, 'dev', 'lo']);
    const workloads = new Workloads(kube, options.namespaces);
    // First the node: only it can end what an earlier run has left on it.
    const kubelet = await SimulatedKubelet.start(kube);
    await step('clearing what an earlier run has left', () => workloads.prepare());
    return new Load(options, { kubelet, workloads, manager: await ManagerPod.follow(kube) });
  }

  async run(): Promise<LoadReport> {
    const { minutes, clients, workloads, attachments } = this.#options;
    await new Promise<void>((resolve) => this.#echo.listen(0, '0.0.0.0', resolve));
    this.#agents = new SimulatedAgents(this.#kubelet.pods, () => this.#manager.address);
    await step(`making ${workloads} workloads`, () => this.#makeWorkloads());
    const empty = await this.#manager.usage();
    await step(`connecting ${clients} clients`, () => forEach(Array.from({ length: clients }), () => this.#arrive()));
    await step(`making ${attachments} attachments`, () => this.#attachAll());
    const loop = monitorEventLoopDelay();
    loop.enable();
    const line = new MemoryLine(this.#manager);
    await line.take();
    const taking = systemClock.every(1_000, () => void line.take());
    const churning = this.#churn();
    const part = (minutes * 60_000) / 3;
    const restarts: RestartReport[] = [];
    await step('churning', () => pause(part));
    const before = line.part();
    restarts.push(await step('killing the manager', () => this.#restart('kill')));
    await step('churning', () => pause(part));
    restarts.push(await step('rolling the manager out anew', () => this.#restart('rollout')));
    await step('churning', () => pause(part));
    this.#isOver = true;
    await churning;
    void taking.dispose();
    loop.disable();
    const lost = await this.#lost();
    for (const [name, { failed, firstFailure }] of Object.entries(this.#samples)) {
      if (failed > 0) {
        console.error(`${name}: ${failed} failed, the first:`, firstFailure);
      }
    }
    return {
      options: this.#options,
      agents: this.#agents.count,
      emptyMb: empty?.memoryMb ?? Number.NaN,
      memory: [before, line.part()],
      peakMb: line.peakMb,
      cpuShare: line.cpuShare,
      latencies: Object.fromEntries(Object.entries(this.#samples).map(([name, each]) => [name, each.summary])),
      generatorLagMs: loop.percentile(99) / 1e6,
      restarts,
      lost,
      unwantedRestarts: this.#manager.restarts,
    };
  }

  async close(): Promise<void> {
    this.#isOver = true;
    await forEach(this.#clients, (client) => client.close().catch(() => undefined));
    this.#agents?.dispose();
    this.#echo.close();
    await this.#workloads.remove();
    await this.#kubelet.stop();
    await this.#manager.dispose();
  }

  async #makeWorkloads(): Promise<void> {
    const { workloads, attachments } = this.#options;
    // Most agents are there before they are needed; every fifth attachment makes its own by a rollout.
    const served = Math.min(workloads, Math.ceil(attachments * 1.5));
    const plans = Array.from({ length: workloads }, (_, number) => ({
      isServed: number < served,
      hasAgent: number < served && number % 5 !== 0,
    }));
    await forEach(plans, async (plan) => {
      const made = await this.#workloads.create(plan);
      (plan.isServed ? this.#free : this.#others).push(made);
    });
    await waitFor('all pods running', settleLimitMs, async () => {
      const running = [...this.#kubelet.pods.items.values()].filter(({ status }) => status?.phase === 'Running');
      return running.length >= workloads ? true : undefined;
    });
  }

  /** Who cannot connect tries again, as people do. */
  async #arrive(): Promise<void> {
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      const client = this.#newClient();
      if (await timed(this.#samples.arrive, () => client.open().then(() => true))) {
        this.#clients.push(client);
        return;
      }
      await client.close();
    }
  }

  #newClient(): SimulatedClient {
    const { port } = this.#echo.address() as { port: number };
    return new SimulatedClient({
      manager: this.#manager,
      localAddress: this.#clientAddress(),
      namespaces: this.#workloads.namespaces,
      number: this.#nextClient++,
      echoPort: port,
      // The bridge's own address: the manager's pod reaches the program that stands for a service.
      serviceAddress: this.#manager.address.replace(/\d+$/, '1'),
    });
  }

  async #attachAll(): Promise<void> {
    const { attachments } = this.#options;
    await forEach(Array.from({ length: attachments }), async () => {
      const client = this.#clients[attachments > 0 ? this.#held() % this.#clients.length : 0];
      if (client) {
        await this.#attach(client);
      }
    });
  }

  #held(): number {
    return this.#clients.reduce((sum, { held }) => sum + held.size, 0);
  }

  async #attach(client: SimulatedClient): Promise<void> {
    const workload = this.#free.shift();
    if (workload) {
      const done = await timed(this.#samples.attach, () => client.attach(workload).then(() => true));
      if (!done) {
        client.held.delete(workload.name);
        this.#free.push(workload);
      }
    }
  }

  /** All loops end with the run. What happens while the manager restarts is not measured. */
  async #churn(): Promise<void> {
    const { clients } = this.#options;
    const every = async (periodMs: number, work: () => Promise<unknown>): Promise<void> => {
      while (!this.#isOver) {
        if (this.#isSteady) {
          this.#busy++;
          await work().finally(() => this.#busy--);
        }
        await pause(periodMs);
      }
    };
    const beside = (periodMs: number, work: () => Promise<unknown>): Promise<void> =>
      every(periodMs, async () => void work());
    await Promise.all([
      every(2_000, () => this.#scale()),
      every(3_000, () => this.#reattach()),
      every(5_000, () => this.#replaceClient()),
      every(4_000, () => this.#replaceWorkload()),
      beside(5_000 / clients, () => this.#ask()),
      beside(10_000 / clients, () => this.#callService()),
      beside(200, () => this.#callDiverted()),
    ]);
  }

  async #scale(): Promise<void> {
    const workload = pick(this.#others);
    if (workload) {
      const replicas = 2 + Math.floor(Math.random() * 2);
      const see = (wanted: number, change: () => Promise<void>): Promise<void> =>
        untilAllSee(
          this.#samples.workloads,
          this.#clients,
          workload,
          ({ desiredReplicas }) => desiredReplicas === wanted,
          change,
        );
      await see(replicas, () => this.#workloads.scale(workload, replicas));
      await see(1, () => this.#workloads.scale(workload, 1));
    }
  }

  async #reattach(): Promise<void> {
    const holder = pick(this.#clients.filter(({ held, isConnected }) => held.size > 0 && isConnected));
    const [name, left] = [...(holder?.held ?? [])][0] ?? [];
    const next = this.#free[0];
    if (!holder || !name || !left || !next) {
      return;
    }
    // Between two attachments it holds none, and is not one that leaves for that.
    this.#moving = holder;
    await this.#move(holder, name, left, next).finally(() => {
      this.#moving = undefined;
    });
  }

  async #move(holder: SimulatedClient, name: string, left: WorkloadName, next: WorkloadName): Promise<void> {
    await timed(this.#samples.leave, () => holder.leave(name));
    this.#free.push(left);
    await untilAllSee(
      this.#samples.attached,
      this.#clients,
      next,
      ({ agentState }) => agentState === INTERCEPTED,
      () => this.#attach(holder),
    );
  }

  async #replaceClient(): Promise<void> {
    const index = this.#clients.findIndex((client) => client.held.size === 0 && client !== this.#moving);
    const [leaving] = index < 0 ? [] : this.#clients.splice(index, 1);
    if (leaving) {
      await leaving.close();
      await this.#arrive();
    }
  }

  async #replaceWorkload(): Promise<void> {
    const gone = this.#others.shift();
    if (gone) {
      await this.#workloads.delete(gone);
      this.#others.push(await this.#workloads.create({ isServed: false, hasAgent: false }));
    }
  }

  async #ask(): Promise<void> {
    const client = pick(this.#clients.filter(({ isConnected }) => isConnected));
    await this.#measured(this.#samples.names, client && (() => client.lookup('kubernetes.default.svc.cluster.local.')));
  }

  async #callService(): Promise<void> {
    const client = pick(this.#clients.filter(({ isConnected }) => isConnected));
    await this.#measured(this.#samples.services, client && (() => client.callService()));
  }

  async #callDiverted(): Promise<void> {
    const held = this.#attachments();
    const one = pick(held.filter(({ client, name }) => client.isActive(name)));
    await this.#measured(this.#samples.diverted, one && (() => this.#divertedCall(one)));
  }

  /** What a restart has cut off is the restart's, and a client may have left meanwhile. */
  async #measured(samples: Samples, work: (() => Promise<void>) | undefined): Promise<void> {
    const here = new Samples();
    if (work) {
      await timed(here, work);
      if (this.#isSteady && !this.#isOver) {
        samples.failed += here.failed;
        samples.firstFailure ??= here.firstFailure;
        if (here.count > 0) {
          samples.add(here.percentile(0));
        }
      }
    }
  }

  #attachments(): { readonly client: SimulatedClient; readonly name: string }[] {
    return this.#clients.flatMap((client) => [...client.held.keys()].map((name) => ({ client, name })));
  }

  #divertedCall({ client, name }: { readonly client: SimulatedClient; readonly name: string }): Promise<void> {
    return this.#agents?.call(`${client.id}:${name}`) ?? Promise.resolve();
  }

  async #restart(how: 'kill' | 'rollout'): Promise<RestartReport> {
    this.#isSteady = false;
    await waitFor('what was begun being done', 60_000, async () =>
      this.#busy === 0 && this.#attachments().every(({ client, name }) => client.isActive(name)) ? true : undefined,
    ).catch(() => undefined);
    const sessions = new Map(this.#clients.map((client) => [client, client.id]));
    const held = this.#attachments();
    const started = performance.now();
    await this.#manager.restart(how);
    const readyMs = performance.now() - started;
    const isBack = (): boolean =>
      [...sessions].every(([client, id]) => client.isConnected && client.id === id) &&
      held.every(({ client, name }) => client.isActive(name));
    await waitFor('everybody being back', backLimitMs, async () => (isBack() ? true : undefined)).catch(
      () => undefined,
    );
    const backMs = performance.now() - started;
    // An agent may come back after its client; until then its pod answers its callers itself.
    let unanswered = 0;
    await forEach(held, (one) =>
      waitFor('an answer of the developer', answerLimitMs, () =>
        this.#divertedCall(one).then(
          () => true as const,
          () => undefined,
        ),
      ).catch(() => void unanswered++),
    );
    this.#isSteady = true;
    return {
      how,
      readyMs,
      backMs,
      clients: sessions.size,
      lostClients: [...sessions].filter(([client, id]) => !client.isConnected || client.id !== id).length,
      attachments: held.length,
      lostAttachments: held.filter(({ client, name }) => !client.isActive(name)).length,
      unanswered,
    };
  }

  async #lost(): Promise<{ readonly clients: number; readonly attachments: number }> {
    const settled = (): boolean =>
      this.#clients.every(({ isConnected }) => isConnected) &&
      this.#attachments().every(({ client, name }) => client.isActive(name));
    await waitFor('everything being as it should', 30_000, async () => (settled() ? true : undefined)).catch(
      () => undefined,
    );
    return {
      clients:
        this.#clients.filter(({ isConnected }) => !isConnected).length + this.#options.clients - this.#clients.length,
      attachments: this.#attachments().filter(({ client, name }) => !client.isActive(name)).length,
    };
  }
}
