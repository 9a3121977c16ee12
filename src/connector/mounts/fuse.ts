import { access, lstat, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import { type Clock, type Disposable, type Logger, sleep, toError, withTimeout } from '../../base/index.ts';
import { mountFailed } from '../errors.ts';
import type { StartProgram } from '../reach/program.ts';
import type { MountTable, RunProgram } from './mount-table.ts';

const mountLimitMs = 10_000;
const lookAgainMs = 50;
const retryMs = 3_000;
const endLimitMs = 3_000;
/** Changes in the pod are seen after so long at most; sshfs would keep listings for 20 s. */
const keptListingS = 2;

export interface FuseDeps {
  readonly platform: NodeJS.Platform;
  readonly uid: number;
  readonly gid: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly table: MountTable;
  readonly start: StartProgram;
  /** A new connection to the files. */
  readonly connect: (signal: AbortSignal) => Promise<Duplex>;
}

/** Whether this machine can mount: sshfs is there, and the kernel lets it. */
export async function canMount(platform: NodeJS.Platform, run: RunProgram): Promise<boolean> {
  if (platform !== 'linux' && platform !== 'darwin') {
    return false;
  }
  const hasDevice =
    platform === 'darwin' ||
    (await access('/dev/fuse').then(
      () => true,
      () => false,
    ));
  return hasDevice && (await run(['sshfs', '-V'])) !== undefined;
}

export interface VolumeMountOptions {
  readonly source: string;
  readonly target: string;
  readonly isReadOnly: boolean;
}

/** A volume mounted by sshfs, whose input and output are a tunnel to the pod. It is mounted again when that breaks. */
export class VolumeMount implements Disposable {
  readonly #deps: FuseDeps;
  readonly #options: VolumeMountOptions;
  readonly #controller = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(deps: FuseDeps, options: VolumeMountOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Resolves when it is mounted. Errors: `connector.mount-failed`. */
  async open(): Promise<void> {
    const first = Promise.withResolvers<void>();
    this.#loop = this.#keep(first);
    await first.promise;
  }

  async dispose(): Promise<void> {
    this.#controller.abort();
    await this.#loop;
  }

  async #keep(first: PromiseWithResolvers<void>): Promise<void> {
    const { clock, log, table } = this.#deps;
    const { signal } = this.#controller;
    let wasMounted = false;
    while (!signal.aborted) {
      await table.unmount(this.#options.target).catch(() => undefined);
      try {
        await this.#mountOnce(() => {
          wasMounted = true;
          first.resolve();
        });
      } catch (error) {
        log.debug('a volume is not mounted', { error: toError(error) });
        if (!wasMounted) {
          first.reject(error);
          return;
        }
      }
      await sleep(clock, retryMs, signal).catch(() => undefined);
    }
    await table.unmount(this.#options.target).catch(() => undefined);
  }

  /** Until it ends. */
  async #mountOnce(mounted: () => void): Promise<void> {
    const { clock, start, connect, table } = this.#deps;
    const { signal } = this.#controller;
    const { target } = this.#options;
    await mkdir(target, { recursive: true, mode: 0o700 });
    const tunnel = await connect(signal);
    const program = start(sshfsCommand(this.#options, this.#deps));
    const end = (): void => {
      // What is busy goes away when it is not; nobody waits for it.
      void table.unmount(target).finally(() => {
        tunnel.destroy();
        program.kill();
      });
    };
    signal.addEventListener('abort', end, { once: true });
    join(tunnel, program.stream);
    const isOver = new AbortController();
    const ended = program.ended.finally(() => isOver.abort());
    try {
      await withTimeout(
        clock,
        mountLimitMs,
        'mounting',
        (limit) => untilMounted(target, clock, AbortSignal.any([limit, isOver.signal])),
        signal,
      ).then(mounted, async (error: unknown) => {
        program.kill();
        throw mountFailed(target, (await ended) || toError(error).message);
      });
      await ended;
    } finally {
      signal.removeEventListener('abort', end);
      tunnel.destroy();
      await withTimeout(clock, endLimitMs, 'the end of sshfs', () => ended).catch(() => program.kill());
    }
  }
}

function sshfsCommand({ source, target, isReadOnly }: VolumeMountOptions, { platform, uid, gid }: FuseDeps): string[] {
  const options = [
    // Its input and output are the connection.
    'slave',
    // In the pod, where the container would follow them; never on this machine.
    'follow_symlinks',
    `uid=${uid}`,
    `gid=${gid}`,
    'umask=077',
    ...(platform === 'linux' ? [`dcache_timeout=${keptListingS}`] : []),
    ...(isReadOnly ? ['ro'] : []),
  ];
  return ['sshfs', '-f', '-o', options.join(','), `pod:${source}`, target];
}

function join(a: Duplex, b: Duplex): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.pipe(to);
    from.once('error', () => to.destroy());
    from.once('close', () => to.destroy());
  }
}

/** What is mounted is of another file system than the folder around it. */
async function untilMounted(target: string, clock: Clock, signal: AbortSignal): Promise<void> {
  for (;;) {
    const [own, around] = await Promise.all([lstat(target).catch(() => undefined), lstat(dirname(target))]);
    if (own && own.dev !== around.dev) {
      return;
    }
    await sleep(clock, lookAgainMs, signal);
  }
}
