import type { Duplex } from 'node:stream';
import { type Clock, type Disposable, type Logger, Scope, toError } from '../../base/index.ts';
import type { MountRequest } from '../contract.ts';
import { filesLost } from '../errors.ts';
import { podConnections } from '../intercept/pod-conn.ts';
import type { ClusterDialer } from '../outbound/dial.ts';
import { tunnelDuplex } from '../proxy/relay.ts';
import { runProgram, startPiped } from '../reach/program.ts';
import { cleanUp, MountFolder } from './folder.ts';
import { canMount } from './fuse.ts';
import { createMountTable } from './mount-table.ts';
import type { FilesSource } from './plan.ts';
import { AttachmentVolumes } from './volumes.ts';

export interface MountsDeps {
  /** A folder of the user's, for volumes only. Several connectors share it. */
  readonly base: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly dialer: Pick<ClusterDialer, 'dialTcp'>;
}

/** The volumes of everything that one connection is attached to. */
export class Mounts implements Disposable {
  readonly #deps: MountsDeps;
  readonly #scope = new Scope();
  readonly #table;
  #folder: Promise<MountFolder> | undefined;
  #canMount: Promise<boolean> | undefined;

  constructor(deps: MountsDeps) {
    this.#deps = deps;
    this.#table = createMountTable({ platform: process.platform, log: deps.log, run: runProgram });
  }

  /** Removes what a crash has left. Never rejects. */
  async cleanUp(): Promise<void> {
    await cleanUp({ ...this.#deps, table: this.#table }).catch((error: unknown) =>
      this.#deps.log.warn('volumes of before could not be looked for', { error: toError(error) }),
    );
  }

  /** Resolves when the files are here, or are tried for. Errors: `connector.mount-folder-taken`. */
  async open(name: string, request: MountRequest, source: () => FilesSource | undefined): Promise<AttachmentVolumes> {
    const { clock, log } = this.#deps;
    const table = this.#table;
    this.#folder ??= MountFolder.open({ ...this.#deps, table }).then((made) => this.#scope.own(made));
    this.#canMount ??= canMount(process.platform, runProgram);
    const folder = await (await this.#folder).add(name, request.folder);
    const user = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const volumes = new AttachmentVolumes({
      clock,
      log: log.child(name),
      folder,
      source,
      connect: this.#connector(source),
      fuse: (await this.#canMount)
        ? { platform: process.platform, ...user, clock, log, table, start: startPiped }
        : undefined,
      isReadOnly: request.isReadOnly ?? false,
    });
    await volumes.open();
    return volumes;
  }

  async dispose(): Promise<void> {
    await this.#folder?.catch(() => undefined);
    await this.#scope.dispose();
  }

  #connector(source: () => FilesSource | undefined): (signal: AbortSignal) => Promise<Duplex> {
    const connId = podConnections(() => source()?.podIp ?? '');
    return async (signal) => {
      const id = connId('tcp', source()?.port ?? 0);
      const outcome = id && (await this.#deps.dialer.dialTcp(id, signal));
      if (outcome?.result !== 'ok') {
        throw filesLost();
      }
      let made: Duplex | undefined;
      outcome.connection.attach((stream) => {
        const { duplex, handlers } = tunnelDuplex(stream);
        made = duplex;
        return handlers;
      });
      if (!made) {
        throw filesLost();
      }
      return made;
    };
  }
}
