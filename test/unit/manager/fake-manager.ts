import { LogLevelSwitch, silentLogger, systemClock } from '../../../src/base/index.ts';
import { createGuard } from '../../../src/manager/identity/guard.ts';
import { createMetrics } from '../../../src/manager/metrics/metrics.ts';
import { dialRoutes } from '../../../src/manager/service/dials.ts';
import { Intercepts } from '../../../src/manager/service/intercepts.ts';
import { LogControl } from '../../../src/manager/service/log-control.ts';
import { managerRoutes } from '../../../src/manager/service/routes.ts';
import { Store } from '../../../src/manager/state/store.ts';
import { TunnelRouter } from '../../../src/manager/tunnel/router.ts';
import { DialWatchers } from '../../../src/manager/tunnel/watchers.ts';
import type { wire } from '../../../src/protocol/index.ts';
import type { ServiceRouter } from '../../../src/protocol/transport/index.ts';
import { type FakeCluster, planOptions } from './fake-cluster.ts';
import { HandClock } from './hand-clock.ts';

/** The manager's parts around a cluster in memory, without sockets. */
export function fakeManager(
  cluster: FakeCluster,
  info?: () => wire.ClusterInfo,
  { requireToken = false }: { readonly requireToken?: boolean } = {},
) {
  const clock = new HandClock();
  const store = new Store(clock, 'install');
  const watchers = new DialWatchers(clock);
  const { kube, view } = cluster;
  const intercepts = new Intercepts({
    kube,
    view,
    store,
    clock,
    plan: planOptions,
    isListening: () => true,
    log: silentLogger,
  });
  const guard = createGuard({
    ...{ kube, view, store, clock, log: silentLogger, requireToken, managerNamespace: 'ambassador' },
  });
  const metrics = createMetrics({
    ...{ store, view, clock },
    process: { memoryBytes: () => 1, cpuSeconds: () => 2, loopDelaySeconds: () => 0.5 },
  });
  const logLevel = new LogLevelSwitch(clock, 'info');
  const router = new TunnelRouter({
    ...{ store, watchers, clock, log: silentLogger, tally: metrics.tunnels },
    mayTunnel: (...call) => guard.gate.mayTunnel(...call),
  });
  const calls = managerRoutes({
    store,
    view,
    watchers,
    intercepts,
    gate: guard.gate,
    config: guard.config,
    metrics,
    logs: new LogControl({ level: logLevel, clock, log: silentLogger }),
    resolver: {
      lookup: async (name) =>
        name === 'web.'
          ? { rcode: 0, answers: [{ type: 'A', name: 'web', ttl: 4, data: '10.0.0.7' }] }
          : { rcode: 3, answers: [] },
    },
    info:
      info ??
      (() => {
        throw new RangeError('not asked for here');
      }),
    agentImage: 'nearfield/traffic:1',
    // Without sockets there are no addresses: test/unit/manager/agents.test.ts is about those.
    agents: { interceptor: (next) => next },
    // What gathers changes has nothing to do with leases.
    clock: systemClock,
    log: silentLogger,
  });
  const dials = dialRoutes({ store, ...guard });
  const routes = (router: ServiceRouter): void => {
    calls(router);
    dials(router);
  };
  return { clock, store, watchers, intercepts, router, routes, guard, metrics, logLevel };
}
