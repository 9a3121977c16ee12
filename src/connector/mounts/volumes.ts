import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type Clock, Emitter, isReason, type Logger, sleep, toError } from '../../base/index.ts';
import type { FilesView, VolumeView } from '../contract.ts';
import { filesLost } from '../errors.ts';
import { FileClient } from './client.ts';
import { VolumeCopy } from './copy.ts';
import type { AttachmentFolder } from './folder.ts';
import { type FuseDeps, VolumeMount } from './fuse.ts';
import { type FilesSource, type PlannedVolume, planVolumes } from './plan.ts';
import { type LeftOut, type Scan, type ScanLimits, scanVolume } from './scan.ts';

export interface VolumesDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly folder: AttachmentFolder;
  readonly source: () => FilesSource | undefined;
  /** Opens a connection to the files. Errors: `connector.files-lost`. */
  readonly connect: (signal: AbortSignal) => Promise<Duplex>;
  /** Undefined: this machine cannot mount. */
  readonly fuse: Omit<FuseDeps, 'connect'> | undefined;
  readonly isReadOnly: boolean;
}

/** Of one volume. What programs read at their start is far below; what is far above is better mounted. */
export const copyLimits: ScanLimits = {
  totalBytes: 32 * 1024 * 1024,
  fileBytes: 16 * 1024 * 1024,
  files: 2_000,
  depth: 16,
};
const pollMs = 2_000;
/** Looking at a large volume must not be all that is done, nor its change be noticed never. */
const restFactor = 10;
const maxRestMs = 30_000;
const maxShown = 20;

interface Held {
  readonly volume: PlannedVolume;
  readonly target: string;
  readonly copy: VolumeCopy;
  mount: VolumeMount | undefined;
  view: VolumeView;
}

/** The volumes of one attachment on this machine, kept as they are in the pod until it is left. */
export class AttachmentVolumes {
  readonly #deps: VolumesDeps;
  readonly #held = new Map<string, Held>();
  readonly #controller = new AbortController();
  readonly #changed = new Emitter<void>();
  readonly onChanged = this.#changed.event;
  #client: FileClient | undefined;
  #loop: Promise<void> | undefined;

  constructor(deps: VolumesDeps) {
    this.#deps = deps;
  }

  get view(): FilesView {
    return { root: this.#deps.folder.root, volumes: [...this.#held.values()].map(({ view }) => view) };
  }

  /** Resolves when all is here for the first time, or could not be had; it is tried again then. Never rejects. */
  async open(): Promise<void> {
    await this.#look();
    this.#loop = this.#poll();
  }

  /** Removes everything. */
  async dispose(): Promise<void> {
    this.#controller.abort();
    this.#client?.dispose();
    await this.#loop;
    await Promise.all([...this.#held.values()].map(({ mount }) => mount?.dispose()));
    await this.#deps.folder
      .remove()
      .catch((error: unknown) => this.#deps.log.warn('volumes could not be removed', { error: toError(error) }));
  }

  async #poll(): Promise<void> {
    const { clock } = this.#deps;
    const { signal } = this.#controller;
    for (let restMs = pollMs; !signal.aborted; ) {
      await sleep(clock, restMs, signal).catch(() => undefined);
      const startMs = clock.nowMs();
      const isDone = !signal.aborted && (await this.#look());
      restMs = isDone ? Math.min(maxRestMs, Math.max(pollMs, restFactor * (clock.nowMs() - startMs))) : pollMs;
    }
  }

  /** Brings everything to what the pod has now; false when nobody is there. */
  async #look(): Promise<boolean> {
    const source = this.#deps.source();
    if (!source) {
      return false;
    }
    let isThere = true;
    for (const volume of planVolumes(source, this.#deps.isReadOnly)) {
      const held = this.#hold(volume);
      const before = JSON.stringify(held.view);
      try {
        held.view = await this.#bring(held);
      } catch (error) {
        this.#deps.log.debug('a volume is not up to date', { path: volume.path, error: toError(error) });
        held.view = { ...held.view, message: toError(error).message };
        isThere = !isReason(error, 'connector.files-lost');
      }
      if (JSON.stringify(held.view) !== before) {
        this.#changed.fire();
      }
      if (this.#controller.signal.aborted || !isThere) {
        return false;
      }
    }
    return true;
  }

  #hold(volume: PlannedVolume): Held {
    const { folder } = this.#deps;
    const present = this.#held.get(volume.path);
    if (present) {
      return present;
    }
    const { path, isReadOnly } = volume;
    const target = join(folder.files, path);
    const held: Held = {
      volume,
      target,
      copy: new VolumeCopy(target, folder.staging),
      mount: undefined,
      view: { path, kind: 'waiting', isReadOnly, leftOut: [] },
    };
    this.#held.set(path, held);
    return held;
  }

  async #bring(held: Held): Promise<VolumeView> {
    const { volume, target, copy, view } = held;
    const { path, source, isReadOnly } = volume;
    if (source === undefined) {
      await mkdir(target, { recursive: true, mode: 0o700 });
      return { path, kind: 'local', isReadOnly: false, leftOut: [] };
    }
    if (held.mount) {
      return view;
    }
    const client = await this.#connected();
    const scan = await scanVolume(client, source, copyLimits);
    const { fuse } = this.#deps;
    if (fuse && view.kind === 'waiting' && isBetterMounted(scan, isReadOnly)) {
      const { connect } = this.#deps;
      const mount = new VolumeMount({ ...fuse, connect }, { source, target, isReadOnly });
      const isMounted = await mount.open().then(
        () => true,
        (error: unknown) => {
          this.#deps.log.info('a volume is copied instead of mounted', { path, error: toError(error) });
          return false;
        },
      );
      if (isMounted) {
        held.mount = mount;
        return { path, kind: 'mount', isReadOnly, leftOut: [] };
      }
      await mount.dispose();
    }
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    const unread = await copy.apply(client, scan);
    return { path, kind: 'copy', isReadOnly: true, leftOut: shown([...scan.leftOut, ...unread]) };
  }

  async #connected(): Promise<FileClient> {
    if (!this.#client || this.#client.isLost) {
      const { signal } = this.#controller;
      this.#client = await FileClient.open(await this.#deps.connect(signal), this.#deps.clock);
      if (signal.aborted) {
        this.#client.dispose();
        throw filesLost();
      }
    }
    return this.#client;
  }
}

/** What the kubelet publishes, and single files, nobody writes to; all else may be written, or be larger than a copy. */
const isBetterMounted = ({ isPublished, files, leftOut }: Scan, isReadOnly: boolean): boolean =>
  !isPublished && !files.has('') && (!isReadOnly || leftOut.some(({ reason }) => reason.startsWith('too-')));

const shown = (leftOut: readonly LeftOut[]): readonly LeftOut[] => leftOut.slice(0, maxShown);
