import type { V1Container, V1Pod, V1Probe } from '../../kube/index.ts';
import {
  agentHealthPort,
  appEnvironmentPrefix,
  type SidecarConfig,
  type SidecarContainer,
} from '../../protocol/index.ts';
import { annotation } from './plan.ts';

export const agentContainerName = 'traffic-agent';

export interface PatchOptions {
  readonly config: SidecarConfig;
  readonly image: string;
  readonly pullPolicy: string;
}

export interface PatchOperation {
  readonly op: 'add' | 'replace';
  readonly path: string;
  readonly value: unknown;
}

/**
 * What turns a pod into one with a traffic-agent: the agent takes over the names of the ports that services refer
 * to, and the application's ports are renamed. A pure function; a pod that has its agent is left alone.
 */
export function injectionPatch(pod: V1Pod, options: PatchOptions): PatchOperation[] {
  const containers = pod.spec?.containers ?? [];
  if (containers.some(({ name }) => name === agentContainerName)) {
    return [];
  }
  return [
    ...containers.flatMap((container, index) => hidePorts(container, index, options.config)),
    { op: 'add', path: '/spec/containers/-', value: agentContainer(containers, options) },
    ...annotations(pod, options.config),
    ...labels(pod, options.config),
  ];
}

const hiddenName = (name: string): string => `tm-${name}`.slice(0, 15);

function takenPorts(container: SidecarContainer | undefined): Set<string> {
  return new Set(
    (container?.intercepts ?? []).map((port) => port.containerPortName).filter((name) => name !== undefined),
  );
}

const configOf = (name: string, config: SidecarConfig): SidecarContainer | undefined =>
  config.containers.find((each) => each.name === name);

function hidePorts(container: V1Container, index: number, config: SidecarConfig): PatchOperation[] {
  const taken = takenPorts(configOf(container.name, config));
  const base = `/spec/containers/${index}`;
  const ports = (container.ports ?? []).flatMap((port, at): PatchOperation[] =>
    port.name && taken.has(port.name)
      ? [{ op: 'replace', path: `${base}/ports/${at}/name`, value: hiddenName(port.name) }]
      : [],
  );
  const probes = (['livenessProbe', 'readinessProbe', 'startupProbe'] as const).flatMap((key): PatchOperation[] => {
    const probe: V1Probe | undefined = container[key];
    return (['httpGet', 'tcpSocket'] as const).flatMap((how): PatchOperation[] => {
      const port = probe?.[how]?.port;
      return typeof port === 'string' && taken.has(port)
        ? [{ op: 'replace', path: `${base}/${key}/${how}/port`, value: hiddenName(port) }]
        : [];
    });
  });
  return [...ports, ...probes];
}

function agentContainer(containers: readonly V1Container[], { config, image, pullPolicy }: PatchOptions): object {
  const ports = new Map(
    config.containers.flatMap((container) => container.intercepts ?? []).map((port) => [port.agentPort, port]),
  );
  return {
    name: agentContainerName,
    image,
    imagePullPolicy: pullPolicy,
    command: ['/usr/local/bin/node'],
    args: ['/app/agent.cjs'],
    ports: [...ports.values()].map((port) => ({
      name: port.containerPortName,
      containerPort: port.agentPort,
      protocol: port.protocol ?? 'TCP',
    })),
    env: [
      { name: 'AGENT_CONFIG', value: escapeReferences(JSON.stringify(config)) },
      fieldEnvironment('_TEL_AGENT_POD_IP', 'status.podIP'),
      fieldEnvironment('_TEL_AGENT_POD_UID', 'metadata.uid'),
      fieldEnvironment('_TEL_AGENT_NAME', 'metadata.name'),
      ...containers.flatMap((container) => appEnvironment(container, configOf(container.name, config))),
    ],
    envFrom: containers.flatMap((container) => {
      const prefix = appEnvironmentPrefix + (configOf(container.name, config)?.envPrefix ?? '');
      return (container.envFrom ?? []).map((source) => ({ ...source, prefix: `${prefix}${source.prefix ?? ''}` }));
    }),
    readinessProbe: { httpGet: { path: '/ready', port: agentHealthPort }, periodSeconds: 1, failureThreshold: 3 },
    resources: {},
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: 1000,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
  };
}

function fieldEnvironment(name: string, fieldPath: string): object {
  return { name, valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } };
}

/** The kubelet would expand `$(X)` inside the configuration. */
function escapeReferences(text: string): string {
  return text.replaceAll('$(', '$$(');
}

/** The container's variables again, under a prefix, so that the agent can report them as the process sees them. */
function appEnvironment(container: V1Container, config: SidecarContainer | undefined): object[] {
  const prefix = appEnvironmentPrefix + (config?.envPrefix ?? '');
  return (container.env ?? []).map(({ name, value, valueFrom }) => {
    if (valueFrom) {
      return { name: prefix + name, valueFrom: withContainer(valueFrom, container.name) };
    }
    return {
      name: prefix + name,
      value: (value ?? '').replace(/(?<!\$)\$\(([^)]+)\)/g, (_, key: string) => `$(${prefix}${key})`),
    };
  });
}

/** A resource field without a container name means the container it stands in: keep meaning the application's. */
function withContainer<T extends { resourceFieldRef?: { containerName?: string } }>(
  source: T,
  containerName: string,
): T {
  return source.resourceFieldRef && !source.resourceFieldRef.containerName
    ? { ...source, resourceFieldRef: { ...source.resourceFieldRef, containerName } }
    : source;
}

function annotations(pod: V1Pod, config: SidecarConfig): PatchOperation[] {
  const wanted = { [annotation.config]: JSON.stringify(config), [annotation.inject]: 'enabled' };
  return addKeys('/metadata/annotations', pod.metadata?.annotations, wanted);
}

function labels(pod: V1Pod, config: SidecarConfig): PatchOperation[] {
  return addKeys('/metadata/labels', pod.metadata?.labels, {
    'telepresence.io/workloadName': config.workloadName,
    'telepresence.io/workloadKind': config.workloadKind,
    'telepresence.io/workloadEnabled': 'true',
  });
}

function addKeys(
  path: string,
  existing: Record<string, string> | undefined,
  wanted: Record<string, string>,
): PatchOperation[] {
  if (!existing) {
    return [{ op: 'add', path, value: wanted }];
  }
  return Object.entries(wanted)
    .filter(([key]) => key === annotation.config || existing[key] === undefined)
    .map(([key, value]) => ({ op: 'add', path: `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`, value }));
}
