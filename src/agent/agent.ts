import { readFile } from 'node:fs/promises';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { safeParse } from 'valibot';
import { type Clock, type Logger, type LogLevelSwitch, parseLogLevel, Scope } from '../base/index.ts';
import {
  Agent,
  agentName,
  replacedContainer,
  type SidecarConfig,
  sidecarConfigSchema,
  wire,
  wireVersion,
} from '../protocol/index.ts';
import { createGrpcServer } from '../protocol/transport/index.ts';
import { createNameServer, PodNames, parseSearchList } from './dns/lookup.ts';
import { allEnvironments } from './environment.ts';
import { badConfiguration } from './errors.ts';
import { openFiles } from './files/open.ts';
import { serveHealth } from './health.ts';
import { ManagerLink } from './manager/link.ts';
import { decide, emptyPlan, portKey } from './port/diversion.ts';
import { Forwarder, type ForwarderOptions } from './port/forwarder.ts';
import { openProbePorts, parseProbePorts } from './port/probes.ts';
import { UdpForwarder } from './port/udp.ts';
import { listEnvironments } from './processes.ts';
import type { Relay } from './relay/relay.ts';
import { Diverter } from './tunnel/diverter.ts';
import { KnownClients } from './tunnel/known.ts';
import { OutboundDialer } from './tunnel/outbound.ts';

export interface AgentDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly relay?: Relay | undefined;
  /** That of `log`: the configuration and whoever asks for it set it. */
  readonly logLevel?: LogLevelSwitch | undefined;
}

const mechanisms = ['tcp', 'http'].map((name) => ({ name, product: 'nearfield', version: wireVersion }));

export function parseSidecarConfig(text: string | undefined): SidecarConfig {
  let value: unknown;
  try {
    value = JSON.parse(text ?? '');
  } catch {
    throw badConfiguration('AGENT_CONFIG is not JSON');
  }
  const parsed = safeParse(sidecarConfigSchema, value);
  if (!parsed.success) {
    throw badConfiguration(parsed.issues.map(({ message }) => message).join('; '));
  }
  return parsed.output;
}

export interface RunningAgent {
  /** Stops everything. */
  readonly scope: Scope;
  /** Connections of callers that are open now. */
  readonly openConnections: () => number;
}

/** Builds and starts the traffic-agent: forwarders first, so that the pod serves whatever becomes of the manager. */
export async function startAgent({ clock, log, environment, relay, logLevel }: AgentDeps): Promise<RunningAgent> {
  const config = parseSidecarConfig(environment.AGENT_CONFIG);
  logLevel?.configure(parseLogLevel(config.logLevel ?? '') ?? 'info');
  const podIp = environment._TEL_AGENT_POD_IP ?? '';
  const scope = new Scope((error) => log.error('clean-up failed', { error }));
  scope.defer(() => relay?.dispose());
  const files = await openFiles(config, scope, { podIp, clock, log: log.child('files') });
  const environments = async () => files.withVariables(await allEnvironments(config, environment, listEnvironments));
  const known = new KnownClients(clock, async (sessionId) => (await link?.isClient(sessionId)) ?? false);
  const outbound = new OutboundDialer({
    clock,
    podIp,
    log: log.child('outbound'),
    isKnown: (sessionId) => known.has(sessionId),
  });
  const diverter = new Diverter(clock, log.child('tunnel'), () => link?.openTunnel(), outbound.serve);
  const names = new PodNames(
    createNameServer(),
    parseSearchList(await readFile('/etc/resolv.conf', 'utf8').catch(() => '')),
  );
  let link: ManagerLink | undefined;

  const shared = { podIp, diverter, relay, clock, log: log.child('port') };
  const forwarders = await openPorts(config, scope, shared);
  await openProbePorts(parseProbePorts(environment._TEL_AGENT_PROBE_PORTS ?? ''), scope, shared);
  const checkKnown = async (sessionId = ''): Promise<void> => {
    if (!(await known.has(sessionId))) {
      throw new ConnectError('the session is not known here', Code.PermissionDenied);
    }
  };
  const grpc = createGrpcServer({
    clock,
    service: 'agent',
    acceptTunnel: (stream) => diverter.accept(stream),
    mux: {
      isKnown: ({ sessionId }) => known.has(sessionId),
      onOpen: (stream, info, { sessionId }) => outbound.take(stream, info, sessionId),
      onMux: (mux, { sessionId }) => diverter.serveMux(mux, sessionId),
    },
    routes: (router) =>
      router.service(Agent, {
        version: () => ({ name: agentName, version: wireVersion }),
        watchDial: async function* ({ sessionId }, { signal }) {
          await checkKnown(sessionId);
          yield* diverter.watch(sessionId, signal);
        },
        lookup: async ({ session, name }) => {
          await checkKnown(session?.sessionId);
          return { ips: (await names.addresses(name)).map((ip) => Uint8Array.from(ip)) };
        },
      }),
  });
  const apiPort = await grpc.listen(0);
  scope.defer(() => grpc.close());

  const health = await serveHealth(scope);
  link = new ManagerLink({
    host: config.managerHost,
    port: config.managerPort,
    clock,
    log: log.child('manager'),
    info: create(wire.AgentInfoSchema, {
      name: config.agentName,
      namespace: config.namespace,
      kind: config.workloadKind,
      podIp,
      podName: environment._TEL_AGENT_NAME ?? '',
      podUid: environment._TEL_AGENT_POD_UID ?? '',
      product: 'nearfield',
      version: wireVersion,
      mechanisms,
      apiPort,
      sftpPort: files.port,
    }),
    environments,
    mountsOf: files.mountsOf,
    onIntercepts: (intercepts) => {
      const { plans, reviews } = decide(config, intercepts);
      known.setAttached(new Set(intercepts.map(({ clientSession }) => clientSession?.sessionId ?? '')));
      for (const [key, forwarder] of forwarders) {
        forwarder.apply(plans.get(key) ?? emptyPlan);
      }
      return reviews;
    },
    onServing: health.setReady,
    onLogLevel: (text, durationMs) => {
      const level = parseLogLevel(text);
      if (level) {
        log.info('the log level changes', { to: level, durationMs });
        logLevel?.set(level, durationMs || undefined);
      }
    },
    dialFor: (stream, info) => outbound.dialFor(stream, info),
    lookup: (name, qtype) => names.lookup(name, qtype),
  });
  scope.own(link);
  link.start();
  // Ready without the manager too, after a while: the application must not wait for us.
  scope.own(clock.after(10_000, health.setReady));
  log.info('traffic-agent is serving', { workload: config.workloadName, ports: [...forwarders.keys()], apiPort });
  const openConnections = (): number =>
    [...forwarders.values()].reduce((sum, forwarder) => sum + forwarder.openConnections, relay?.count ?? 0);
  return { scope, openConnections };
}

/** One listener for every port and protocol; where a container was replaced, in its place. */
async function openPorts(
  config: SidecarConfig,
  scope: Scope,
  shared: Pick<ForwarderOptions, 'podIp' | 'diverter' | 'relay' | 'clock' | 'log'>,
): Promise<ReadonlyMap<string, Forwarder | UdpForwarder>> {
  const forwarders = new Map<string, Forwarder | UdpForwarder>();
  for (const { replace, intercepts } of config.containers) {
    for (const port of intercepts) {
      if (forwarders.has(portKey(port))) {
        continue;
      }
      const hasApp = replace !== replacedContainer;
      const options = {
        ...shared,
        hasApp,
        agentPort: hasApp ? port.agentPort : port.containerPort,
        containerPort: port.containerPort,
      };
      const forwarder = scope.own(port.protocol === 'UDP' ? new UdpForwarder(options) : new Forwarder(options));
      await forwarder.listen();
      forwarders.set(portKey(port), forwarder);
    }
  }
  return forwarders;
}
