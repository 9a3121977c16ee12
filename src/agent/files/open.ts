import { type Clock, type Logger, type Scope, toError } from '../../base/index.ts';
import type { SidecarConfig, wire } from '../../protocol/index.ts';
import { findExports, hasShared, mountPointOf, mountVariables } from './exports.ts';
import { Places } from './place.ts';
import { FileServer } from './server.ts';

export interface Files {
  /** 0: there is nothing to serve. */
  readonly port: number;
  /** A container's volumes, as clients are told of them. */
  readonly mountsOf: (container: string) => Pick<wire.ContainerInfo, 'mountPoint' | 'mounts'>;
  /** With what says where the files are. */
  readonly withVariables: (
    environments: Readonly<Record<string, Record<string, string>>>,
  ) => Readonly<Record<string, Record<string, string>>>;
}

export interface FilesDeps {
  readonly podIp: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Where the containers' volumes are, other than in a pod. */
  readonly root?: string | undefined;
}

/** Serves the volumes of the pod where it has some. The pod serves its callers whatever becomes of them. */
export async function openFiles(config: SidecarConfig, scope: Scope, deps: FilesDeps): Promise<Files> {
  let exports = await findExports(config, deps.root);
  let port = 0;
  if (hasShared(exports)) {
    const places = new Places(exports);
    const server = scope.own(new FileServer({ ...deps, places, managerHost: config.managerHost }));
    port = await server.listen().catch((error: unknown) => {
      deps.log.error('the files cannot be served', { error: toError(error) });
      exports = [];
      return 0;
    });
  }
  const of = (container: string) => exports.find((each) => each.container === container);
  return {
    port,
    mountsOf: (container) => {
      const mounts = { ...of(container)?.mounts };
      return { mountPoint: Object.keys(mounts).length > 0 ? mountPointOf(container) : '', mounts };
    },
    withVariables: (environments) =>
      Object.fromEntries(
        Object.entries(environments).map(([container, environment]) => [
          container,
          { ...environment, ...mountVariables(of(container)) },
        ]),
      ),
  };
}
