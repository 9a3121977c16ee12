import type { V1Container, V1Pod, V1ResourceRequirements } from '../../kube/index.ts';
import {
  agentHealthPort,
  appEnvironmentPrefix,
  replacedContainer,
  type SidecarConfig,
  type SidecarContainer,
} from '../../protocol/index.ts';
import { annotation } from './annotations.ts';
import { agentMounts } from './mounts.ts';
import { calledPorts, hiddenKey, hidePorts } from './probes.ts';
import { initContainer, probePorts, redirectedPorts } from './redirect.ts';
import { agentResources } from './resources.ts';

export const agentContainerName = 'traffic-agent';
/** The redirections let its own connections through to the application. */
const agentUid = 1000;

/** Where the agent comes from, and what it may use. */
export interface AgentImage {
  readonly image: string;
  readonly pullPolicy: string;
  /** Names of secrets, in the pod's namespace. */
  readonly pullSecrets?: readonly string[];
  /** Undefined: what the application's containers make necessary. */
  readonly resources?: V1ResourceRequirements | undefined;
}

export interface PatchOptions extends AgentImage {
  readonly config: SidecarConfig;
}

export interface PatchOperation {
  readonly op: 'add' | 'replace' | 'remove';
  readonly path: string;
  readonly value?: unknown;
}

/**
 * What turns a pod into one with a traffic-agent: the agent takes over the names of the ports that services refer
 * to, and the application's ports are renamed; those that are called by number are redirected by an init container.
 * Probes still call the application. A pure function; a pod that has its agent is left alone.
 */
export function injectionPatch(pod: V1Pod, options: PatchOptions): PatchOperation[] {
  const containers = pod.spec?.containers ?? [];
  if (containers.some(({ name }) => name === agentContainerName)) {
    return [];
  }
  const hidden = hiddenNames(containers, options.config);
  const past = probePorts(containers, options.config, containers.flatMap(calledPorts));
  const replaced = new Set(
    options.config.containers.filter(({ replace }) => replace === replacedContainer).map(({ name }) => name),
  );
  return [
    ...containers.flatMap((container, index) =>
      replaced.has(container.name) ? [] : hidePorts(container, index, { hidden, past }),
    ),
    ...initContainers(pod, options, past),
    { op: 'add', path: '/spec/containers/-', value: agentContainer(pod, options, past) },
    ...pullSecrets(pod, options),
    ...annotations(pod, options.config),
    ...labels(pod, options.config),
    // The last first: what is removed moves those behind it.
    ...containers
      .map(({ name }, index) => ({ name, index }))
      .filter(({ name }) => replaced.has(name))
      .reverse()
      .map(({ index }): PatchOperation => ({ op: 'remove', path: `/spec/containers/${index}` })),
  ];
}

const maxPortNameLength = 15;

/**
 * New names for the ports whose names the agent takes. A pod with a name that is too long, ends in a dash or occurs
 * twice in a container would be refused.
 */
function hiddenNames(containers: readonly V1Container[], config: SidecarConfig): Map<string, string> {
  const used = new Set(containers.flatMap(({ ports = [] }) => ports.map(({ name }) => name)));
  const hidden = new Map<string, string>();
  for (const port of config.containers.flatMap(({ intercepts }) => intercepts)) {
    const { containerPortName: name, protocol, targetPortNumeric } = port;
    const key = hiddenKey(name ?? '', protocol);
    if (name !== undefined && !targetPortNumeric && !hidden.has(key)) {
      let candidate = cut(`tm-${name}`, maxPortNameLength);
      for (let count = 1; used.has(candidate); count++) {
        candidate = `${cut(`tm-${name}`, maxPortNameLength - 1 - String(count).length)}-${count}`;
      }
      used.add(candidate);
      hidden.set(key, candidate);
    }
  }
  return hidden;
}

const cut = (name: string, length: number): string => name.slice(0, length).replace(/-+$/, '');

const configOf = (name: string, config: SidecarConfig): SidecarContainer | undefined =>
  config.containers.find((each) => each.name === name);

/** Last: the others are the application's, and may need the network as it was. */
function initContainers(pod: V1Pod, options: PatchOptions, past: ReadonlyMap<number, number>): PatchOperation[] {
  if (redirectedPorts(options.config).length === 0) {
    return [];
  }
  const { image, pullPolicy: imagePullPolicy, resources } = options;
  const made = {
    ...initContainer(options.config, past, { agentUid, image, imagePullPolicy }),
    resources: agentResources(pod.spec?.containers ?? [], resources),
  };
  return pod.spec?.initContainers?.length
    ? [{ op: 'add', path: '/spec/initContainers/-', value: made }]
    : [{ op: 'add', path: '/spec/initContainers', value: [made] }];
}

function pullSecrets(pod: V1Pod, { pullSecrets: wanted = [] }: PatchOptions): PatchOperation[] {
  const present = pod.spec?.imagePullSecrets ?? [];
  const missing = wanted.filter((name) => !present.some((each) => each.name === name)).map((name) => ({ name }));
  return missing.length === 0 ? [] : [{ op: 'add', path: '/spec/imagePullSecrets', value: [...present, ...missing] }];
}

function agentContainer(pod: V1Pod, options: PatchOptions, past: ReadonlyMap<number, number>): object {
  const { config, image, pullPolicy, resources } = options;
  // Whatever else is in the pod was put there by others: a mesh's proxy has nothing that anybody could attach to.
  const containers = (pod.spec?.containers ?? []).filter(({ name }) => configOf(name, config) !== undefined);
  // Several service ports may lead to one of the agent's.
  const ports = new Map(
    config.containers
      .flatMap(({ intercepts }) => intercepts)
      .map((port) => [`${port.containerPortName ?? ''} ${hiddenKey(String(port.agentPort), port.protocol)}`, port]),
  );
  return {
    name: agentContainerName,
    image,
    imagePullPolicy: pullPolicy,
    // The program itself, and how far its heap may grow, is the image's entry point.
    args: ['/app/agent.cjs'],
    ports: [...ports.values()].map((port) => ({
      ...(port.containerPortName === undefined || port.targetPortNumeric ? {} : { name: port.containerPortName }),
      containerPort: port.agentPort,
      protocol: port.protocol ?? 'TCP',
    })),
    env: [
      { name: 'AGENT_CONFIG', value: escapeReferences(JSON.stringify(config)) },
      fieldEnvironment('_TEL_AGENT_POD_IP', 'status.podIP'),
      fieldEnvironment('_TEL_AGENT_POD_UID', 'metadata.uid'),
      fieldEnvironment('_TEL_AGENT_NAME', 'metadata.name'),
      ...probeEnvironment(past),
      ...containers.flatMap((container) => appEnvironment(container, configOf(container.name, config))),
    ],
    envFrom: containers.flatMap((container) => {
      const prefix = appEnvironmentPrefix + (configOf(container.name, config)?.envPrefix ?? '');
      return (container.envFrom ?? []).map((source) => ({ ...source, prefix: `${prefix}${source.prefix ?? ''}` }));
    }),
    volumeMounts: agentMounts(pod, config),
    readinessProbe: { httpGet: { path: '/ready', port: agentHealthPort }, periodSeconds: 1, failureThreshold: 3 },
    resources: agentResources(containers, resources),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: agentUid,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
  };
}

/** Where the kernel does not redirect, the agent itself leads probes to the application. */
const probeEnvironment = (past: ReadonlyMap<number, number>): object[] =>
  past.size === 0
    ? []
    : [{ name: '_TEL_AGENT_PROBE_PORTS', value: [...past].map(([port, number]) => `${number}:${port}`).join() }];

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
  const own = new Set((container.env ?? []).map(({ name }) => name));
  // What a source brings is not known here; a name that is surely not the container's own means the pod's variable.
  const isOwn = (key: string): boolean => own.has(key) || (container.envFrom?.length ?? 0) > 0;
  return (container.env ?? []).map(({ name, value, valueFrom }) => {
    if (valueFrom) {
      return { name: prefix + name, valueFrom: withContainer(valueFrom, container.name) };
    }
    return {
      name: prefix + name,
      value: (value ?? '').replace(/(?<!\$)\$\(([^)]+)\)/g, (whole, key: string) =>
        isOwn(key) ? `$(${prefix}${key})` : whole,
      ),
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
