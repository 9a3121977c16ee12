import type { Interceptor } from '@connectrpc/connect';
import { ConnectError } from '@connectrpc/connect';
import { type Clock, errorCodes } from '../../base/index.ts';
import { hasFilters, wire } from '../../protocol/index.ts';
import type { ClusterView } from '../cluster/cluster.ts';
import type { Store } from '../state/store.ts';
import { type Counter, Registry } from './text.ts';
import { TunnelTally } from './tunnels.ts';

export interface ProcessNumbers {
  readonly memoryBytes: () => number;
  readonly cpuSeconds: () => number;
  /** How late the event loop is, since the last time it was asked for. */
  readonly loopDelaySeconds: () => number;
}

export interface MetricsDeps {
  readonly store: Store;
  readonly view: Pick<ClusterView, 'heardAtMs'>;
  readonly clock: Clock;
  readonly process: ProcessNumbers;
}

/** What is counted while calls are served. */
export interface ManagerMetrics {
  readonly registry: Registry;
  readonly tunnels: TunnelTally;
  readonly interceptor: Interceptor;
  /** What agents say of connections that do not come through here. */
  reported(metrics: wire.TunnelMetrics): void;
}

const { ACTIVE } = wire.InterceptDispositionType;
const modes = ['intercept', 'filtered', 'wiretap', 'replace'] as const;

/**
 * Names of the public traffic-manager, where it has one, so that dashboards go on; ours begin with `nearfield_`. No label
 * says who: neither users nor machines.
 */
export function createMetrics({ store, view, clock, process }: MetricsDeps): ManagerMetrics {
  const registry = new Registry();
  const tunnels = new TunnelTally();
  registry.gauge('telepresence_client_count', 'Clients with a session.', () => store.clients.size);
  registry.gauge('telepresence_agent_count', 'Traffic-agents with a session.', () => store.agents.size);
  registry.gauge('telepresence_session_count', 'Sessions of both.', () => store.clients.size + store.agents.size);
  registry.gauge('telepresence_active_intercept_count', 'Attachments that are active.', () => activeOf(store).length);
  registry.collected('gauge', 'nearfield_active_attachments', 'Attachments that are active, by mode.', () => {
    const active = activeOf(store).map(modeOf);
    return modes.map((mode) => ({ labels: { mode }, value: active.filter((each) => each === mode).length }));
  });
  const connects = registry.counter('telepresence_connect_count', 'Clients that arrived.');
  const intercepts = registry.counter('telepresence_intercept_count', 'Attachments that were made.');
  registry.gauge('telepresence_tunnel_count', 'Tunnels that are open here.', () => tunnels.open);
  const counted = (name: string, help: string, value: () => number): void =>
    registry.collected('counter', name, help, () => [{ value: value() }]);
  counted('telepresence_tunnel_ingress_bytes', 'Bytes that came from clients’ machines.', () => tunnels.ingressBytes);
  counted('telepresence_tunnel_egress_bytes', 'Bytes that went to clients’ machines.', () => tunnels.egressBytes);
  counted('nearfield_tunnels_total', 'Tunnels that were opened here.', () => tunnels.opened);
  counted(
    'nearfield_tunnels_refused_total',
    'Tunnels whose far end refused, or whose session may not.',
    () => tunnels.refused,
  );
  const calls = registry.counter('nearfield_calls_total', 'Calls that ended, by method and gRPC code.', true);
  registry.collected('gauge', 'nearfield_watch_silence_seconds', 'Since a watch of the API server was heard of.', () =>
    [...view.heardAtMs()].map(([kind, heardAtMs]) => ({
      labels: { kind },
      value: Math.round(clock.nowMs() - heardAtMs) / 1_000,
    })),
  );
  registry.gauge('nearfield_event_loop_delay_seconds', 'The latest turn of the event loop.', process.loopDelaySeconds);
  registry.gauge('process_resident_memory_bytes', 'Memory of the process.', process.memoryBytes);
  counted('process_cpu_seconds_total', 'Processor time of the process.', process.cpuSeconds);
  return {
    registry,
    tunnels,
    interceptor: countCalls(calls, { ArriveAsClient: connects, CreateIntercept: intercepts }),
    reported: ({ ingressBytes, egressBytes }) => tunnels.report(Number(ingressBytes), Number(egressBytes)),
  };
}

const activeOf = (store: Store): wire.InterceptInfo[] =>
  [...store.intercepts.values()].filter(({ disposition }) => disposition === ACTIVE);

function modeOf({ spec }: wire.InterceptInfo): (typeof modes)[number] {
  if (!spec || spec.wiretap) {
    return 'wiretap';
  }
  return spec.replace ? 'replace' : hasFilters(spec) ? 'filtered' : 'intercept';
}

/** A watch is counted when it begins: it may last for days. */
function countCalls(calls: Counter, successes: Readonly<Record<string, Counter>>): Interceptor {
  return (next) => async (request) => {
    const method = request.method.name;
    try {
      const response = await next(request);
      successes[method]?.add(1);
      calls.add(1, { method, code: 'ok' });
      return response;
    } catch (error) {
      calls.add(1, {
        method,
        code: error instanceof ConnectError ? (errorCodes[error.code - 1] ?? 'unknown') : 'unknown',
      });
      throw error;
    }
  };
}
