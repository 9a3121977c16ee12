import {
  type FilteredRequest,
  filterFault,
  filterKey,
  hasFilters,
  requestMatcher,
  type SidecarConfig,
  type SidecarPort,
  wire,
} from '../../protocol/index.ts';
import { isLinear } from './linear.ts';
import { portsOf } from './ports.ts';

/** Where connections or requests of a port go while somebody is attached to it. */
export interface Diversion {
  readonly interceptId: string;
  readonly clientSession: string;
  readonly targetHost: string;
  readonly targetPort: number;
  readonly dialTimeoutMs: number;
  readonly roundtripLatencyMs: number;
  /** Decides request by request; undefined means whole connections. */
  readonly matches?: ((request: FilteredRequest) => boolean) | undefined;
}

/** Everything that is attached to one port: the filtered are asked first, in order, then `whole`, then the application. */
export interface PortPlan {
  readonly filtered: readonly Diversion[];
  readonly whole: Diversion | undefined;
  /** Get copies, and never answer. */
  readonly taps: readonly Diversion[];
}
export const emptyPlan: PortPlan = { filtered: [], whole: undefined, taps: [] };

/** A verdict on an intercept that waits for one. */
export interface Review {
  readonly id: string;
  readonly containerName: string;
  /** The id of the intercept that has the same already. */
  readonly conflict: string | undefined;
  /** Why it cannot be served at all. */
  readonly fault?: string | undefined;
  readonly description: string;
}

export interface Decision {
  /** By `portKey`. A port that is missing passes through. */
  readonly plans: ReadonlyMap<string, PortPlan>;
  readonly reviews: readonly Review[];
}

/** The same number may be a TCP and a UDP port. */
export const portKey = (port: SidecarPort): string => `${port.agentPort}/${port.protocol ?? 'TCP'}`;

const { ACTIVE, WAITING } = wire.InterceptDispositionType;

interface Placed {
  readonly intercept: wire.InterceptInfo;
  readonly spec: wire.InterceptSpec;
  readonly container: string;
  readonly ports: readonly { readonly port: SidecarPort; readonly localPort: number }[];
}

/**
 * What to do about a snapshot of intercepts: who gets what of which port, and what to say of those that wait. Pure,
 * and in the order of the snapshot, so that all agents of a workload come to the same: whoever has a port, or a set of
 * filters on it, keeps it.
 */
export function decide(config: SidecarConfig, intercepts: readonly wire.InterceptInfo[]): Decision {
  const placed = intercepts.map((each) => place(config, each)).filter((each) => each !== undefined);
  const plans = new Map<string, { filtered: Diversion[]; whole: Diversion | undefined; taps: Diversion[] }>();
  const holders = new Map<string, string>();
  for (const each of placed) {
    if (each.intercept.disposition !== ACTIVE || faultOf(config, each)) {
      continue;
    }
    for (const { port, localPort } of each.ports) {
      const plan = plans.get(portKey(port)) ?? { filtered: [], whole: undefined, taps: [] };
      plans.set(portKey(port), plan);
      const diversion = toDiversion(each, localPort);
      const claim = claimOf(each.spec, port);
      if (each.spec.wiretap) {
        plan.taps.push(diversion);
      } else if (!holders.has(claim)) {
        holders.set(claim, each.intercept.id);
        if (diversion.matches) {
          plan.filtered.push(diversion);
        } else {
          plan.whole = diversion;
        }
      }
    }
  }
  const reviews = placed
    .filter(({ intercept }) => intercept.disposition === WAITING)
    .map((each) => review(config, each, holders));
  return { plans, reviews };
}

function review(config: SidecarConfig, each: Placed, holders: Map<string, string>): Review {
  const { intercept, spec, container, ports } = each;
  const claims = spec.wiretap ? [] : ports.map(({ port }) => claimOf(spec, port));
  const fault = faultOf(config, each);
  const conflict = fault
    ? undefined
    : claims
        .map((claim) => holders.get(claim))
        .find((holder) => holder !== undefined && !isFamily(holder, intercept.id));
  if (!fault && !conflict) {
    for (const claim of claims) {
      holders.set(claim, holders.get(claim) ?? intercept.id);
    }
  }
  return { id: intercept.id, containerName: container, conflict, fault, description: describe(spec) };
}

/** What nobody else may have at the same time: the rest of a port, or the requests of the same filters. */
const claimOf = (spec: wire.InterceptSpec, port: SidecarPort): string =>
  `${portKey(port)} ${hasFilters(spec) ? filterKey(spec) : ''}`;

/** A manager may state further ports once more, as intercepts of their own: `<name>-<port>-tcp` beside `<name>`. */
function isFamily(a: string, b: string): boolean {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  return a === b || (long.startsWith(`${short}-`) && /-(tcp|udp)$/i.test(long));
}

function place(config: SidecarConfig, intercept: wire.InterceptInfo): Placed | undefined {
  const { spec } = intercept;
  if (!spec) {
    return undefined;
  }
  const ports = portsOf(config, spec);
  if (ports.length > 0) {
    const isKnown = config.containers.some(({ name }) => name === spec.containerName);
    const container = isKnown ? spec.containerName : (ports[0]?.container ?? '');
    return { intercept, spec, container, ports };
  }
  // Replacing a container and looking at one need no port.
  return spec.containerPort === 0 ? { intercept, spec, container: spec.containerName, ports: [] } : undefined;
}

function faultOf(config: SidecarConfig, { spec, container }: Placed): string | undefined {
  if (!config.containers.some(({ name }) => name === container)) {
    return `No match for container ${container}`;
  }
  return (
    filterFault(spec) ?? (isLinear(spec) ? undefined : 'The filter looks ahead, behind or back, which is not done here')
  );
}

function describe(spec: wire.InterceptSpec): string {
  const what = hasFilters(spec)
    ? 'filtered HTTP requests'
    : spec.protocol === 'UDP'
      ? 'all UDP flows'
      : 'all TCP connections';
  return spec.wiretap ? `a copy of ${what}` : what;
}

/** A caller waits this long at most before the application answers, whatever a client asks for. */
const maxWaitMs = 15_000;

const toMs = (nanoseconds: bigint, fallbackMs: number): number =>
  nanoseconds ? Math.min(Math.max(0, Number(nanoseconds) / 1e6), maxWaitMs) : fallbackMs;

function toDiversion({ intercept, spec }: Placed, targetPort: number): Diversion {
  return {
    interceptId: intercept.id,
    clientSession: intercept.clientSession?.sessionId ?? '',
    targetHost: spec.targetHost || '127.0.0.1',
    targetPort,
    dialTimeoutMs: toMs(spec.dialTimeout, 5_000),
    roundtripLatencyMs: toMs(spec.roundtripLatency, 2_000),
    ...(hasFilters(spec) ? { matches: requestMatcher(spec) } : {}),
  };
}
