import { filterFault, hasFilters, type wire } from '../../protocol/index.ts';
import type { Workload } from '../cluster/cluster.ts';
import { badRequest, redirectForbidden } from '../errors.ts';
import { choosePort, containerTargets, type PortTarget, portKeyOf } from '../injector/targets.ts';
import { portsOf } from './claims.ts';

export interface ResolveOptions {
  readonly targets: readonly PortTarget[];
  /** The Pod Security level that forbids to redirect; undefined where it may be done. */
  readonly forbidding: string | undefined;
}

/**
 * What a specification means, with everything that was left out: it does not depend on the cluster's next change.
 * Errors: `manager.bad-request`, `manager.no-service-port`, `manager.ambiguous-port`, `manager.redirect-forbidden`.
 */
export function resolveSpec(spec: wire.InterceptSpec, workload: Workload, options: ResolveOptions): wire.InterceptSpec {
  checkSupported(spec);
  return spec.replace && (spec.portIdentifier === '' || spec.portIdentifier === 'all')
    ? resolveContainer(spec, workload, options)
    : resolvePorts(spec, workload, options);
}

/** Whoever asks for a part of the traffic must never get all of it instead. */
function checkSupported(spec: wire.InterceptSpec): void {
  const isFiltered = hasFilters(spec);
  if (isFiltered !== (spec.mechanism === 'http') && spec.mechanism !== '') {
    throw badRequest(
      isFiltered
        ? 'filters belong to the mechanism http'
        : `the mechanism ${spec.mechanism} is not known without filters`,
    );
  }
  const fault = isFiltered ? filterFault(spec) : undefined;
  if (fault) {
    throw badRequest(fault);
  }
}

function resolvePorts(spec: wire.InterceptSpec, workload: Workload, options: ResolveOptions): wire.InterceptSpec {
  const target = choosePort(options.targets, workload.name, spec.portIdentifier, spec.serviceName);
  const further = spec.podPorts.map((text) => resolvePodPort(options.targets, workload.name, text));
  const complete = {
    ...spec,
    namespace: workload.namespace,
    workloadKind: workload.kind,
    serviceUid: target.serviceUid,
    serviceName: target.serviceName,
    servicePortName: target.servicePort.name ?? '',
    servicePort: target.servicePort.port,
    protocol: target.protocol,
    // Whose environment it is may be said; the port's container is what is meant otherwise.
    containerName: spec.containerName || target.container.name,
    containerPort: target.containerPort,
    podPorts: further.map(({ text }) => text),
  };
  checkContainer(workload, complete.containerName);
  // A container that is taken away leaves its numbers to the agent, whoever refers to them.
  const left = spec.replace ? complete.containerName : undefined;
  for (const each of [target, ...further.map((port) => port.target)]) {
    if (each.calledBy === 'number' && each.container.name !== left && options.forbidding !== undefined) {
      throw redirectForbidden(workload.name, portKeyOf(each).replace('/TCP', ''), options.forbidding);
    }
  }
  const ports = portsOf(complete);
  if (new Set(ports).size < ports.length) {
    throw badRequest('the same port is named twice');
  }
  return complete;
}

function checkContainer(workload: Workload, name: string): void {
  const containers = workload.object.spec?.template?.spec?.containers ?? [];
  if (!containers.some((each) => each.name === name)) {
    throw badRequest(`${workload.name} has no container ${name}`);
  }
}

/** `http:3000` becomes `8080:3000`. */
function resolvePodPort(
  targets: readonly PortTarget[],
  workload: string,
  text: string,
): { readonly text: string; readonly target: PortTarget } {
  const match = /^([\w-]+)(?::(\d{1,5}))?(?:\/(TCP|UDP))?$/i.exec(text);
  if (!match) {
    throw badRequest(`${text.slice(0, 60)} is no further port`);
  }
  const [, remote = '', local, protocol] = match;
  // Stock clients leave the protocol out, even when the person has said it: a name says enough.
  const target = choosePort(targets, workload, protocol ? `${remote}/${protocol}` : remote, '');
  const { containerPort, protocol: found } = target;
  return { text: `${containerPort}:${local ?? containerPort}${found === 'UDP' ? '/UDP' : ''}`, target };
}

/** A container as a whole, with every port that it has. */
function resolveContainer(
  spec: wire.InterceptSpec,
  workload: Workload,
  { targets }: ResolveOptions,
): wire.InterceptSpec {
  const containers = workload.object.spec?.template?.spec?.containers ?? [];
  const [only, another] = containers.filter(({ name }) => !spec.containerName || name === spec.containerName);
  if (!only) {
    throw badRequest(`${workload.name} has no container ${spec.containerName}`);
  }
  if (another) {
    throw badRequest(
      `${workload.name} has several containers: ${containers.map(({ name }) => name).join(', ')}. Name one of them`,
    );
  }
  const podPorts = containerTargets(targets, only).map(
    ({ containerPort, protocol }) => `${containerPort}:${containerPort}${protocol === 'UDP' ? '/UDP' : ''}`,
  );
  return {
    ...spec,
    namespace: workload.namespace,
    workloadKind: workload.kind,
    protocol: '',
    containerName: only.name,
    containerPort: 0,
    podPorts: [...new Set(podPorts)],
  };
}
