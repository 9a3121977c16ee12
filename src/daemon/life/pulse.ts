import type { Clock, Disposable, Logger } from '../../base/index.ts';
import type { Platform } from '../os/contract.ts';

/** A loop that stands still for so long holds the machine's names and routes: it ends, and the janitor cleans up. */
export const defaultHangMs = 20_000;
/** Beats in that time: one that is late, or a batch that takes long, is no hang. */
const beatsPerHang = 4;

export interface PulseOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly platform: Pick<Platform, 'expire' | 'notify'>;
  /** 0: nobody watches, as a debugger wants it. */
  readonly hangMs: number;
  /** Where systemd listens, from NOTIFY_SOCKET. */
  readonly notifyPath: string | undefined;
  /** Packets wait and are not read. */
  readonly hasStalled: () => boolean;
}

export interface Pulse extends Disposable {
  /** It serves. */
  ready(): void;
  /** It ends, in order. */
  stopping(): void;
}

/**
 * Shows the system that this process lives: a beat comes out of the event loop, and only while the device is read. The
 * system ends a process whose beats stay away, be its loop stuck or the process stopped: it cannot do so by itself any
 * more, and whoever stopped it leaves a machine that has no names. While the machine sleeps no time passes for this.
 */
export function startPulse({ clock, log, platform, hangMs, notifyPath, hasStalled }: PulseOptions): Pulse {
  const tell = (text: string): void => {
    if (notifyPath !== undefined && !platform.notify?.(notifyPath, text)) {
      log.debug('the service manager does not listen', { text });
    }
  };
  if (hangMs === 0) {
    return { ready: () => tell('READY=1'), stopping: () => tell('STOPPING=1'), dispose: () => undefined };
  }
  const beat = (): void => {
    if (hasStalled()) {
      log.error('packets wait and are not read: this is a fault of ours');
      return;
    }
    platform.expire?.(hangMs);
    tell('WATCHDOG=1');
  };
  if (platform.expire?.(hangMs) === false) {
    log.warn('nobody ends this process if it hangs');
  }
  const timer = clock.every(hangMs / beatsPerHang, beat);
  return {
    ready: () => tell('READY=1'),
    stopping: () => tell('STOPPING=1'),
    dispose() {
      void timer.dispose();
      platform.expire?.(0);
    },
  };
}
