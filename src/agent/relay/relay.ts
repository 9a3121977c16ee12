import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import type { Disposable, IpBytes } from '../../base/index.ts';

/** Joins callers with the application outside of JavaScript. */
export interface Relay extends Disposable {
  /**
   * Takes over a socket that nobody has read from, and connects it to the application. False when it was not taken: then
   * it is as before. One that was taken is closed here; the connection lives on in the relay.
   */
  pass(socket: Socket, address: IpBytes, port: number, timeoutMs: number): boolean;
  /** Connections that are open there. */
  readonly count: number;
}

interface Addon {
  start(): boolean;
  pass(fd: number, address: Uint8Array, port: number, timeoutMs: number): boolean;
  count(): number;
  stop(): void;
}

const isAddon = (value: unknown): value is Addon =>
  typeof value === 'object' && value !== null && ['start', 'pass', 'count', 'stop'].every((name) => name in value);

/** The relay of `relay.c`; undefined where it was not built for this system. At most one a process. */
export function loadRelay(path: string): Relay | undefined {
  let addon: unknown;
  try {
    addon = createRequire(path)(path);
  } catch {
    return undefined;
  }
  return isAddon(addon) && addon.start() ? new NativeRelay(addon) : undefined;
}

class NativeRelay implements Relay {
  readonly #addon: Addon;

  constructor(addon: Addon) {
    this.#addon = addon;
  }

  get count(): number {
    return this.#addon.count();
  }

  pass(socket: Socket, address: IpBytes, port: number, timeoutMs: number): boolean {
    const fd = descriptorOf(socket);
    if (fd === undefined || socket.bytesRead > 0 || !this.#addon.pass(fd, address, port, timeoutMs)) {
      return false;
    }
    // Closes our descriptor only: neither a FIN nor a reset leaves while the relay has another.
    socket.destroy();
    return true;
  }

  dispose(): void {
    this.#addon.stop();
  }
}

/** Node keeps it where it has been for ten years, without a public name. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: unknown } };
  return typeof handle?.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}
