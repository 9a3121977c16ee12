import { appEnvironmentPrefix, type SidecarConfig, type SidecarContainer } from '../protocol/index.ts';

const ownKeys = new Set(['HOME', 'PATH', 'HOSTNAME', 'AGENT_CONFIG']);
type Environment = Readonly<Record<string, string | undefined>>;

/**
 * A container's variables as its process sees them: what the kubelet gives every container of the pod (service
 * addresses), then the container's own, which were copied under its prefix.
 */
export function containerEnvironment(container: SidecarContainer, environment: Environment): Record<string, string> {
  const common = Object.entries(environment).filter(([key]) => !key.startsWith('_TEL_') && !ownKeys.has(key));
  const prefix = appEnvironmentPrefix + (container.envPrefix ?? '');
  const own = Object.entries(environment)
    .filter(([key]) => key.startsWith(prefix))
    .map(([key, value]) => [key.slice(prefix.length), value] as const);
  const all = [...common, ...own, ['TELEPRESENCE_CONTAINER', container.name] as const];
  return Object.fromEntries(all.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

export function allEnvironments(
  config: SidecarConfig,
  environment: Environment,
): Record<string, Record<string, string>> {
  return Object.fromEntries(
    config.containers.map((container) => [container.name, containerEnvironment(container, environment)]),
  );
}
