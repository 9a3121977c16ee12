import type { Duplex } from 'node:stream';
import { type Clock, type Disposable, isReason, type Logger, Scope, toError } from '../../base/index.ts';
import type { ConnId } from '../../protocol/index.ts';
import type { MountRequest } from '../contract.ts';
import { filesLost, mountFailed } from '../errors.ts';
import { podConnections } from '../intercept/pod-conn.ts';
import type { ClusterConnection, ClusterDialer } from '../outbound/dial.ts';
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
  /** Ways to a pod, tried one after the other. */
  readonly dialers: readonly Pick<ClusterDialer, 'dialTcp'>[];
}

/** Where an attachment's files are. */
export interface FilesOrigin {
  /** Undefined while it is not known. */
  readonly source: () => FilesSource | undefined;
  /** Finds out anew, when nobody is there any more. */
  readonly renew?: ((signal: AbortSignal) => Promise<void>) | undefined;
}

/** Asking for an agent is work for the cluster. */
const renewEveryMs = 10_000;

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

  /** Resolves when the files are here, or are tried for. Errors: `connector.mount-folder-taken`, `connector.mount-failed`. */
  async open(name: string, request: MountRequest, origin: FilesOrigin): Promise<AttachmentVolumes> {
    const { base, clock, log } = this.#deps;
    const table = this.#table;
    this.#folder ??= MountFolder.open({ ...this.#deps, table }).then((made) => this.#scope.own(made));
    this.#canMount ??= canMount(process.platform, runProgram);
    const folder = await this.#folder
      .then((own) => own.add(name, request.folder))
      .catch((error: unknown) => {
        throw isReason(error, 'connector.mount-folder-taken') ? error : mountFailed(base, toError(error).message);
      });
    const user = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const volumes = new AttachmentVolumes({
      clock,
      log: log.child(name),
      folder,
      source: origin.source,
      connect: this.#connector(origin),
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

  #connector({ source, renew }: FilesOrigin): (signal: AbortSignal) => Promise<Duplex> {
    const { clock, log } = this.#deps;
    let renewedAtMs = clock.nowMs();
    const connId = podConnections(() => source()?.podIp ?? '');
    return async (signal) => {
      const connection = await this.#dial(() => connId('tcp', source()?.port ?? 0), signal);
      if (!connection) {
        if (renew && clock.nowMs() - renewedAtMs > renewEveryMs) {
          renewedAtMs = clock.nowMs();
          await renew(signal).catch((error: unknown) => log.debug('no agent has the files', { error: toError(error) }));
        }
        throw filesLost();
      }
      let made: Duplex | undefined;
      connection.attach((stream) => {
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

  async #dial(connId: () => ConnId | undefined, signal: AbortSignal): Promise<ClusterConnection | undefined> {
    for (const dialer of this.#deps.dialers) {
      const id = connId();
      const outcome = id && (await dialer.dialTcp(id, signal));
      if (outcome?.result === 'ok') {
        return outcome.connection;
      }
    }
    return undefined;
  }
}
