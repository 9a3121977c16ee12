import type { SidecarConfig, SidecarPort } from '../../protocol/index.ts';
import { wire } from '../../protocol/index.ts';

/** Where connections of a port go while somebody intercepts it. */
export interface Diversion {
  readonly interceptId: string;
  readonly clientSession: string;
  readonly targetHost: string;
  readonly targetPort: number;
  readonly dialTimeoutMs: number;
  readonly roundtripLatencyMs: number;
}

/** A verdict on an intercept that waits for one. */
export interface Review {
  readonly id: string;
  readonly containerName: string;
  readonly conflict: string | undefined;
}

export interface Decision {
  /** By agent port. */
  readonly diversions: ReadonlyMap<number, Diversion>;
  readonly reviews: readonly Review[];
}

const { ACTIVE, WAITING } = wire.InterceptDispositionType;

/**
 * What to do about a snapshot of intercepts: who gets which port, and what to say of those that wait. Pure. The one
 * that holds a port keeps it, so that two agents of a workload never disagree for long.
 */
export function decide(config: SidecarConfig, intercepts: readonly wire.InterceptInfo[]): Decision {
  const diversions = new Map<number, Diversion>();
  const owners = new Map<number, string>();
  const reviews: Review[] = [];
  const matching = intercepts
    .map((intercept) => ({ intercept, place: placeOf(config, intercept.spec) }))
    .filter((each) => each.place !== undefined);
  for (const { intercept, place } of matching) {
    if (place && intercept.disposition === ACTIVE && !diversions.has(place.port.agentPort)) {
      diversions.set(place.port.agentPort, toDiversion(intercept));
      owners.set(place.port.agentPort, intercept.id);
    }
  }
  for (const { intercept, place } of matching) {
    if (place && intercept.disposition === WAITING) {
      const owner = owners.get(place.port.agentPort);
      reviews.push({ id: intercept.id, containerName: place.container, conflict: owner });
      owners.set(place.port.agentPort, owner ?? intercept.id);
    }
  }
  return { diversions, reviews };
}

function placeOf(
  config: SidecarConfig,
  spec: wire.InterceptSpec | undefined,
): { port: SidecarPort; container: string } | undefined {
  for (const container of config.containers) {
    const port = container.intercepts?.find(
      (each) => each.containerPort === spec?.containerPort && (each.protocol ?? 'TCP') === (spec.protocol || 'TCP'),
    );
    if (port) {
      return { port, container: container.name };
    }
  }
  return undefined;
}

/** A caller waits this long at most before the application answers, whatever a client asks for. */
const maxWaitMs = 15_000;

const toMs = (nanoseconds: bigint | undefined, fallbackMs: number): number =>
  nanoseconds ? Math.min(Math.max(0, Number(nanoseconds) / 1e6), maxWaitMs) : fallbackMs;

function toDiversion({ id, spec, clientSession }: wire.InterceptInfo): Diversion {
  return {
    interceptId: id,
    clientSession: clientSession?.sessionId ?? '',
    targetHost: spec?.targetHost || '127.0.0.1',
    targetPort: spec?.targetPort ?? 0,
    dialTimeoutMs: toMs(spec?.dialTimeout, 5_000),
    roundtripLatencyMs: toMs(spec?.roundtripLatency, 2_000),
  };
}
