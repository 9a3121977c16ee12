import { replacedContainer, type SidecarConfig, type wire } from '../../protocol/index.ts';

/** The containers that attachments of one workload take away. */
export const wantedReplaced = (specs: readonly wire.InterceptSpec[]): Set<string> =>
  new Set(specs.filter(({ replace }) => replace).map(({ containerName }) => containerName));

/** Those that a configuration takes away. */
export const replacedIn = (config: SidecarConfig): string[] =>
  config.containers.filter(({ replace }) => replace === replacedContainer).map(({ name }) => name);
