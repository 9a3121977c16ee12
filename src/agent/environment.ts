import { appEnvironmentPrefix, type SidecarConfig, type SidecarContainer } from '../protocol/index.ts';
import { type Environment, type ListEnvironments, processEnvironment } from './processes.ts';

const ownKeys = new Set(['HOME', 'PATH', 'HOSTNAME', 'AGENT_CONFIG']);

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

/**
 * The variables of every container, by its name: as its process sees them where that can be read, since an entry point may
 * have set more; else as the pod's specification gives them.
 */
export async function allEnvironments(
  config: SidecarConfig,
  own: Environment,
  list: ListEnvironments,
): Promise<Record<string, Record<string, string>>> {
  const processes = await list();
  return Object.fromEntries(
    config.containers.map((container) => {
      const given = containerEnvironment(container, own);
      const seen = processEnvironment(container, config.containers, own, processes) ?? {};
      const added = Object.entries(seen).filter(([key]) => !ownKeys.has(key) && !key.startsWith('_TEL_'));
      return [container.name, { ...given, ...Object.fromEntries(added) }];
    }),
  );
}
