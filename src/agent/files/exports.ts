import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  agentMountsRoot,
  exportsRoot,
  type MountPolicy,
  mountPolicies,
  type SidecarConfig,
} from '../../protocol/index.ts';

/** The volumes of a container as clients are told of them. */
export interface Exported {
  readonly container: string;
  /** Where this machine has them. */
  readonly root: string;
  /** By the container's paths. */
  readonly mounts: Readonly<Record<string, MountPolicy>>;
}

/** Where clients find the volumes of a container. */
export const mountPointOf = (container: string): string => `${exportsRoot}/${container}`;

/** What is really there: not every pod has what its workload's configuration speaks of. */
export async function findExports(config: SidecarConfig, root = agentMountsRoot): Promise<readonly Exported[]> {
  return await Promise.all(
    config.containers.map(async ({ name, mounts = {} }) => {
      const own = join(root, name);
      const found = await Promise.all(
        Object.entries(mounts).map(async ([path, policy]) => {
          const isThere = isShared(policy) ? await exists(join(own, path)) : policy === mountPolicies.local;
          return isThere ? ([path, policy as MountPolicy] as const) : undefined;
        }),
      );
      return { container: name, root: own, mounts: Object.fromEntries(found.filter((each) => each !== undefined)) };
    }),
  );
}

/** Whether a volume is served, and not only named. */
export const isShared = (policy: number): boolean =>
  policy === mountPolicies.remote || policy === mountPolicies.remoteReadOnly;

export const hasShared = (exported: readonly Exported[]): boolean =>
  exported.some(({ mounts }) => Object.values(mounts).some(isShared));

/** The variables that the public wire has for whoever wants to find the files. */
export function mountVariables(exported: Exported | undefined): Record<string, string> {
  const paths = (wanted: (policy: number) => boolean): string =>
    Object.entries(exported?.mounts ?? {})
      .filter(([, policy]) => wanted(policy))
      .map(([path]) => path)
      .join(':');
  const shared = paths(isShared);
  const local = paths((policy) => policy === mountPolicies.local);
  return {
    ...(shared ? { TELEPRESENCE_MOUNTS: shared } : {}),
    ...(local ? { TELEPRESENCE_LOCAL_MOUNTS: local } : {}),
  };
}

/** A directory that may not be read is there nevertheless. */
const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    async () =>
      await readdir(path).then(
        () => true,
        ({ code }: NodeJS.ErrnoException) => code === 'EACCES' || code === 'ENOTDIR',
      ),
  );
