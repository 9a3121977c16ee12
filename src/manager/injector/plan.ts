import {
  agentHealthPort,
  agentMountsRoot,
  firstAgentPort,
  replacedContainer,
  type SidecarConfig,
  type SidecarPort,
} from '../../protocol/index.ts';
import type { ClusterView, Workload } from '../cluster/cluster.ts';
import { agentPortTaken, isOnHostNetwork, isTheManager, notInterceptable } from '../errors.ts';
import { wishesOf } from './annotations.ts';
import { mountRules, type PolicyRules, plannedMounts } from './mounts.ts';
import { containerTargets, type PortKey, type PortTarget, portKeyOf, portTargets } from './targets.ts';

export interface PlanOptions {
  readonly managerHost: string;
  readonly managerPort: number;
  readonly logLevel: string;
  /** What becomes of volumes of which the workload says nothing. */
  readonly mountPolicies?: PolicyRules | undefined;
}

/** What those who attach need beyond the ports that are called by name. */
export interface Demand {
  /** Containers that are taken away. */
  readonly replaced?: ReadonlySet<string>;
  /** Ports that are called by number. */
  readonly redirected?: ReadonlySet<PortKey>;
  /** Whether the namespace admits an init container that redirects. Default: it does. */
  readonly mayRedirect?: boolean;
}

/**
 * The sidecar's configuration. Every port that is called by name gets an agent port of its own; those called by number
 * do where somebody wants one of them, since only they need a right to redirect; of a container that is taken away, the
 * agent has all ports at their own numbers. Pure. Errors: `manager.not-interceptable`, `manager.is-the-manager`,
 * `manager.host-network`, `manager.agent-port-taken`, `manager.bad-annotation`.
 */
export function planSidecar(
  view: ClusterView,
  workload: Workload,
  options: PlanOptions,
  demand: Demand = {},
): SidecarConfig {
  checkInjectable(workload, options);
  const { replaced = new Set() } = demand;
  const all = portTargets(view, workload);
  const redirected = redirections(all, workload, demand);
  const targets = all.filter(
    (target) =>
      !replaced.has(target.container.name) && (target.calledBy === 'name' || redirected.has(portKeyOf(target))),
  );
  const containers = workload.object.spec?.template?.spec?.containers ?? [];
  const agentPorts = agentPortsFor(
    targets.map(({ containerPort }) => containerPort),
    containers.flatMap(({ ports = [] }) => ports.map(({ containerPort }) => containerPort)),
    workload.name,
  );
  const rules = mountRules(workload, options.mountPolicies);
  const toPort = (target: PortTarget): SidecarPort => ({
    containerPortName: target.portName,
    serviceName: target.serviceName,
    serviceUID: target.serviceUid,
    servicePortName: target.servicePort.name,
    servicePort: target.servicePort.port,
    protocol: target.protocol,
    containerPort: target.containerPort,
    agentPort: replaced.has(target.container.name)
      ? target.containerPort
      : (agentPorts.get(target.containerPort) ?? firstAgentPort),
    // By whichever way a caller comes: what is redirected needs no name.
    ...(!replaced.has(target.container.name) && redirected.has(portKeyOf(target)) ? { targetPortNumeric: true } : {}),
  });
  return {
    agentName: workload.name,
    namespace: workload.namespace,
    workloadName: workload.name,
    workloadKind: workload.kind,
    managerHost: options.managerHost,
    managerPort: options.managerPort,
    logLevel: options.logLevel,
    containers: containers.map((container, index) => ({
      name: container.name,
      envPrefix: `${letters(index)}_`,
      mountPoint: `${agentMountsRoot}/${container.name}`,
      mounts: plannedMounts(container, rules),
      ...(replaced.has(container.name) ? { replace: replacedContainer } : {}),
      intercepts: containerTargets(replaced.has(container.name) ? all : targets, container).map(toPort),
    })),
  };
}

function checkInjectable(workload: Workload, { managerHost }: PlanOptions): void {
  if (wishesOf(workload).inject === 'disabled') {
    throw notInterceptable(workload.name);
  }
  if (managerHost === `${workload.name}.${workload.namespace}`) {
    throw isTheManager();
  }
  // The agent's ports would be the node's, and a redirection would catch what belongs to others.
  if (workload.object.spec?.template?.spec?.hostNetwork) {
    throw isOnHostNetwork(workload.name);
  }
}

/**
 * The ports to redirect. Once one is wanted the right is there, and all that services lead to come along: whoever wants
 * another one later does not have the pods re-created again.
 */
function redirections(all: readonly PortTarget[], workload: Workload, demand: Demand): ReadonlySet<PortKey> {
  const { redirected = new Set(), mayRedirect = true } = demand;
  const byNumber = all.filter(({ calledBy }) => calledBy === 'number');
  const isEnabled = wishesOf(workload).inject === 'enabled';
  const wanted = byNumber.filter(
    (target) => target.isWished || redirected.has(portKeyOf(target)) || (isEnabled && target.serviceName !== ''),
  );
  const served = wanted.length > 0 ? byNumber.filter(({ serviceName }) => serviceName !== '') : [];
  return new Set(mayRedirect ? [...wanted, ...served].map(portKeyOf) : []);
}

/** One port of the agent per container port; those that the application has declared are left to it. */
function agentPortsFor(wanted: readonly number[], declared: readonly number[], workload: string): Map<number, number> {
  if (declared.includes(agentHealthPort)) {
    throw agentPortTaken(workload, agentHealthPort);
  }
  const ports = new Map<number, number>();
  let next = firstAgentPort;
  for (const containerPort of wanted) {
    if (!ports.has(containerPort)) {
      while (declared.includes(next)) {
        next++;
      }
      ports.set(containerPort, next++);
    }
  }
  return ports;
}

/** 0 → A, 25 → Z, 26 → AA. */
function letters(index: number): string {
  const head = index >= 26 ? letters(Math.floor(index / 26) - 1) : '';
  return head + String.fromCharCode(65 + (index % 26));
}
