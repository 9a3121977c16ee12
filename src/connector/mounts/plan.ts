import { posix } from 'node:path';
import { mountPolicies } from '../../protocol/index.ts';
import { isName } from './scan.ts';

/** Where an attachment's files are, as its agent says now. */
export interface FilesSource {
  /** Textual; empty while there is no pod. */
  readonly podIp: string;
  readonly port: number;
  /** The agent's directory for the container. */
  readonly mountPoint: string;
  /** By the container's paths; the wire's numbers. */
  readonly mounts: Readonly<Record<string, number>>;
}

export interface PlannedVolume {
  /** Where the container has it. */
  readonly path: string;
  /** Where the agent has it; undefined: an empty folder of this machine. */
  readonly source: string | undefined;
  readonly isReadOnly: boolean;
}

/** More than a pod may have. */
const maxVolumes = 256;
const maxSourceLength = 4_096;

/**
 * What is to be here of the volumes that an agent names. What lies inside another volume comes with that one. The names
 * come from the cluster: a path that leads anywhere else than below a root is none.
 */
export function planVolumes({ mountPoint, mounts, port }: FilesSource, isReadOnly: boolean): readonly PlannedVolume[] {
  const found = Object.entries(mounts)
    .filter(
      ([path, policy]) => isVolumePath(path) && (policy === mountPolicies.local || (isShared(policy) && port > 0)),
    )
    .sort(([a], [b]) => a.length - b.length)
    .slice(0, maxVolumes);
  const outer = found.filter(
    ([path], at) => !found.slice(0, at).some(([other]) => path === other || path.startsWith(`${other}/`)),
  );
  return outer.map(([path, policy]) => ({
    path,
    source: policy === mountPolicies.local ? undefined : posix.join('/', mountPoint.slice(0, maxSourceLength), path),
    isReadOnly: isReadOnly || policy === mountPolicies.remoteReadOnly,
  }));
}

const isShared = (policy: number): boolean =>
  policy === mountPolicies.remote || policy === mountPolicies.remoteReadOnly;

const isVolumePath = (path: string): boolean =>
  path.startsWith('/') && path.length < maxSourceLength && path.slice(1).split('/').every(isName);

/** Agents that name no policies name the paths in a variable; `/tmp` is the pod's own then. */
export function volumesOf(
  mounts: Readonly<Record<string, number>>,
  environment: Readonly<Record<string, string>>,
): Readonly<Record<string, number>> {
  return Object.keys(mounts).length > 0
    ? mounts
    : Object.fromEntries(
        (environment.TELEPRESENCE_MOUNTS ?? '')
          .split(':')
          .filter(Boolean)
          .map((path) => [path, path === '/tmp' ? mountPolicies.local : mountPolicies.remote]),
      );
}
