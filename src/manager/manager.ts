import { safeParse } from 'valibot';
import { type Clock, isLoopback, type Logger, type LogLevelSwitch, retry, Scope } from '../base/index.ts';
import { type Kube, kinds, type V1Namespace } from '../kube/index.ts';
import { createGrpcServer, type ServiceRouter } from '../protocol/transport/index.ts';
import { ClusterView, systemNamespaces } from './cluster/cluster.ts';
import { createResolver } from './cluster/dns.ts';
import { clusterDomainOf, clusterInfo, findServiceSubnets } from './cluster/info.ts';
import { ManagedNamespaces } from './cluster/managed.ts';
import { AgentGate } from './identity/agents.ts';
import { createGuard } from './identity/guard.ts';
import type { PodCallers } from './identity/pods.ts';
import { wantsAgent } from './injector/annotations.ts';
import { ensureCertificate } from './injector/certificate.ts';
import { type AgentImage, injectionPatch } from './injector/patch.ts';
import { createWebhook } from './injector/webhook.ts';
import { createMetrics, type ManagerMetrics, type ProcessNumbers } from './metrics/metrics.ts';
import { createStatusServer } from './metrics/serve.ts';
import { type ManagerOptions, managerOptionsSchema } from './options.ts';
import { dialRoutes } from './service/dials.ts';
import { Intercepts } from './service/intercepts.ts';
import { LogControl } from './service/log-control.ts';
import { managerRoutes } from './service/routes.ts';
import { Store } from './state/store.ts';
import { TunnelRouter } from './tunnel/router.ts';
import { DialWatchers } from './tunnel/watchers.ts';

export interface ManagerDeps {
  readonly kube: Kube;
  readonly clock: Clock;
  readonly log: Logger;
  readonly resolvConf: string;
  /** That of `log`. */
  readonly logLevel: LogLevelSwitch;
  readonly process: ProcessNumbers;
}

export function parseOptions(
  environment: Readonly<Record<string, string | undefined>>,
): ManagerOptions | readonly string[] {
  const parsed = safeParse(managerOptionsSchema, environment);
  return parsed.success ? parsed.output : parsed.issues.map((issue) => `${issue.path?.[0]?.key}: ${issue.message}`);
}

/** Builds and starts the traffic-manager: gRPC, webhook, leases. What it answers takes it down again. */
export async function startManager(deps: ManagerDeps, options: ManagerOptions): Promise<Scope> {
  const { kube, clock, log } = deps;
  const scope = new Scope((error) => log.error('clean-up failed', { error }));
  const status = await startStatus(options, scope, log);
  const view = scope.own(new ClusterView(kube, log.child('cluster'), watchedNamespaces(options)));
  await view.ready();
  const namespace = await kube.get<V1Namespace>(kinds.namespace, options.MANAGER_NAMESPACE);
  const store = new Store(clock, namespace?.metadata?.uid ?? '');
  const guard = createGuard({
    ...{ kube, view, store, clock, log, requireToken: options.REQUIRE_TOKEN },
    managerNamespace: options.MANAGER_NAMESPACE,
  });
  scope.defer(() => guard.dispose());
  await guard.ready();
  const { gate, config, admission, pods } = guard;
  const metrics = createMetrics({ store, view, clock, process: deps.process });
  const clusterDomain = clusterDomainOf(deps.resolvConf);
  const serviceSubnets = await findServiceSubnets(kube, view, options.MANAGER_NAMESPACE);
  const watchers = new DialWatchers(clock);
  const managed = scope.own(
    new ManagedNamespaces({ kube, clock, log: log.child('cluster'), selector: options.NAMESPACE_SELECTOR }),
  );
  const plan = {
    managerHost: `traffic-manager.${options.MANAGER_NAMESPACE}`,
    managerPort: options.SERVER_PORT,
    logLevel: options.AGENT_LOG_LEVEL ?? options.LOG_LEVEL,
    mountPolicies: options.AGENT_MOUNT_POLICIES,
  };
  const intercepts = scope.own(
    new Intercepts({
      kube,
      view,
      store,
      clock,
      plan,
      managed,
      policy: options.AGENT_INJECT_POLICY,
      isListening: (id) => watchers.isListening(id),
      log: log.child('intercept'),
    }),
  );
  intercepts.relearn();
  const agents = new AgentGate({ store, pods, log: log.child('identity') });
  const router = new TunnelRouter({
    ...{ store, watchers, clock, log: log.child('tunnel'), tally: metrics.tunnels },
    mayTunnel: (caller, authorization, sessionId) =>
      agents.mayTunnel(caller, sessionId) && gate.mayTunnel(caller, authorization, sessionId),
  });
  const nameserver = /^nameserver\s+(\S+)/m.exec(deps.resolvConf)?.[1] ?? '10.96.0.10';
  const server = createGrpcServer({
    clock,
    service: 'manager',
    log: log.child('callers'),
    acceptTunnel: (stream, headers, caller) => router.accept(stream, headers, caller),
    mux: router.mux,
    routes: both(
      dialRoutes({ store, gate, admission }),
      managerRoutes({
        store,
        view,
        managed,
        watchers,
        intercepts,
        gate,
        config,
        metrics,
        logs: new LogControl({ level: deps.logLevel, clock, log: log.child('service') }),
        resolver: createResolver({ nameserver, clusterDomain, clock }),
        info: () =>
          clusterInfo({
            view,
            serviceSubnets,
            clusterDomain,
            podIp: options.POD_IP,
            managerNamespace: options.MANAGER_NAMESPACE,
            apiPort: options.SERVER_PORT,
            wishes: config.current.client,
          }),
        agentImage: options.AGENT_IMAGE,
        agents,
        clock,
        log: log.child('service'),
      }),
    ),
  });
  scope.own(clock.every(1_000, () => store.expire()));
  // An agent whose pod is gone does not depart when it was killed.
  scope.own(
    view.pods.onItemChanged(({ type, object }) => {
      if (type === 'deleted' || object.metadata?.deletionTimestamp || object.status?.phase === 'Failed') {
        store.remove(`agent:${object.metadata?.uid}`);
      }
    }),
  );
  await startWebhook(deps, options, { scope, view, intercepts, pods });
  await server.listen(options.SERVER_PORT, options.SERVER_HOST || undefined);
  scope.defer(() => server.close());
  await status.ready(metrics);
  log.info('traffic-manager is serving', { port: options.SERVER_PORT, clusterDomain });
  return scope;
}

type Routes = (router: ServiceRouter) => void;
const both =
  (first: Routes, second: Routes): Routes =>
  (router) => {
    first(router);
    second(router);
  };

/** Answers probes from the start; metrics once there is something to measure. */
async function startStatus(
  { HEALTH_PORT: healthPort, PROMETHEUS_PORT: metricsPort, SERVER_HOST: host }: ManagerOptions,
  scope: Scope,
  log: Logger,
): Promise<{ ready(metrics: ManagerMetrics): Promise<void> }> {
  let isReady = false;
  const open = async (port: number, metrics?: () => string): Promise<void> => {
    const server = createStatusServer({ metrics, isReady: () => isReady, log: log.child('status') });
    await server.listen(port, host || undefined);
    scope.defer(() => server.close());
  };
  await open(healthPort);
  return {
    async ready({ registry }) {
      isReady = true;
      if (metricsPort) {
        await open(metricsPort, () => registry.text());
      }
    },
  };
}

/** Where it is not everywhere, its own Service and pod are of interest too. */
function watchedNamespaces({ MANAGED_NAMESPACES: managed, MANAGER_NAMESPACE: own }: ManagerOptions): string[] {
  return managed.length === 0 ? [] : [...new Set([...managed, own])];
}

/** Far below the webhook's limit, far above the delay of a watch. */
const unseenOwnerMs = 2_000;
const registrationBackoff = { firstMs: 1_000, factor: 2, maxMs: 30_000 };

function resourcesOf({ AGENT_RESOURCES: chosen }: ManagerOptions): AgentImage['resources'] {
  const { requests, limits } = chosen ?? {};
  return chosen && { ...(requests ? { requests } : {}), ...(limits ? { limits } : {}) };
}

interface WebhookParts {
  readonly scope: Scope;
  readonly view: ClusterView;
  readonly intercepts: Intercepts;
  readonly pods: PodCallers;
}

async function startWebhook(
  { kube, clock, log }: ManagerDeps,
  options: ManagerOptions,
  { scope, view, intercepts, pods }: WebhookParts,
): Promise<void> {
  const certificate = await ensureCertificate(kube, options.MANAGER_NAMESPACE, clock);
  // Once everything is to go, no pod gets a new agent, not even one whose annotation asks for it.
  let isEnding = false;
  const image: AgentImage = {
    image: options.AGENT_IMAGE,
    pullPolicy: options.AGENT_IMAGE_PULL_POLICY,
    pullSecrets: (options.AGENT_IMAGE_PULL_SECRETS ?? []).map(({ name }) => name),
    resources: resourcesOf(options),
  };
  const webhook = createWebhook({
    port: options.MUTATOR_WEBHOOK_PORT,
    certificate,
    log: log.child('injector'),
    clock,
    // Helm's job runs beside us; everybody else comes through a port-forward, for which the API server asks for rights.
    mayUninstall: async (address) => isLoopback(address) || pods.isInNamespace(address, options.MANAGER_NAMESPACE),
    uninstall: () => {
      isEnding = true;
      return intercepts.uninstall(undefined, []);
    },
    patch: async (pod, podNamespace) => {
      if (isEnding || systemNamespaces.has(podNamespace)) {
        return [];
      }
      // Only who asks for an agent waits for us: any other pod of an unknown owner starts at once.
      const workload = wantsAgent(pod)
        ? await view.awaitWorkloadOfPod(pod, podNamespace, { clock, limitMs: unseenOwnerMs })
        : view.workloadOfPod(pod, podNamespace);
      const config = workload && (await intercepts.configOf(workload));
      return config ? injectionPatch(pod, { config, ...image }) : [];
    },
  });
  await webhook.listen();
  scope.defer(() => webhook.close());
  const name = `agent-injector-webhook-${options.MANAGER_NAMESPACE}`;
  const caBundle = Buffer.from(certificate.ca).toString('base64');
  const register = (): Promise<unknown> =>
    kube.patch(
      kinds.mutatingWebhook,
      name,
      undefined,
      [{ op: 'add', path: '/webhooks/0/clientConfig/caBundle', value: caBundle }],
      'json',
    );
  await register().catch((error: unknown) => {
    // Without it pods start without agents; everything else works, and the object may come later.
    log.warn('the webhook could not be registered, trying again', { name, error });
    const controller = new AbortController();
    scope.defer(() => controller.abort());
    retry(register, { clock, signal: controller.signal, backoff: registrationBackoff }).then(
      () => log.info('the webhook is registered', { name }),
      () => undefined,
    );
  });
}
