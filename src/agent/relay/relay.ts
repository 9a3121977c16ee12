import { createRequire } from 'node:module';
import { type Server, Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { Disposable, IpBytes } from '../../base/index.ts';

/** Joins callers with the application outside of JavaScript. */
export interface Relay extends Disposable {
  /**
   * Takes over a socket that nobody has read from, and connects it to the application. False when it was not taken: then
   * it is as before. One that was taken is closed here; the connection lives on in the relay.
   */
  pass(socket: Socket, address: IpBytes, port: number, timeoutMs: number): boolean;
  /**
   * The same, with a copy of what the caller says: it ends as the caller does, and fails when it was cut off, since nobody
   * who passes waits for it. Undefined when the socket was not taken.
   */
  copy(socket: Socket, address: IpBytes, port: number, timeoutMs: number): Readable | undefined;
  /**
   * Accepts at a listening server's port by itself, for as long as the door is open; the server may be closed then. A new
   * door is shut. Undefined where there is no room for it.
   */
  addDoor(server: Server, address: IpBytes, port: number, timeoutMs: number): Door | undefined;
  /** Connections that are open there. */
  readonly count: number;
}

/** A listening port that the relay accepts at: what comes is joined with the application, and JavaScript sees nothing of it. */
export interface Door extends Disposable {
  open(): void;
  /** Afterwards no connection is accepted here any more. */
  shut(): void;
  /** A descriptor of the listening socket for a server of one's own, which closes it; undefined when there is none left. */
  descriptor(): number | undefined;
}

interface Addon {
  start(): boolean;
  pass(fd: number, address: Uint8Array, port: number, timeoutMs: number): boolean;
  copy(
    fd: number,
    address: Uint8Array,
    port: number,
    timeoutMs: number,
  ): readonly [joined: boolean, descriptor: number];
  addDoor(fd: number, address: Uint8Array, port: number, timeoutMs: number): number;
  setOpen(door: number, isOpen: boolean): void;
  descriptor(door: number): number;
  removeDoor(door: number): void;
  count(): number;
  stop(): void;
}

const functions = ['start', 'pass', 'copy', 'addDoor', 'setOpen', 'descriptor', 'removeDoor', 'count', 'stop'];
const isAddon = (value: unknown): value is Addon =>
  typeof value === 'object' && value !== null && functions.every((name) => name in value);

/** The relay of `addon.c`; undefined where it was not built for this system. At most one a process. */
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
    const fd = untouched(socket);
    if (fd === undefined || !this.#addon.pass(fd, address, port, timeoutMs)) {
      return false;
    }
    // Closes our descriptor only: neither a FIN nor a reset leaves while the relay has another.
    socket.destroy();
    return true;
  }

  copy(socket: Socket, address: IpBytes, port: number, timeoutMs: number): Readable | undefined {
    const fd = untouched(socket);
    const [isJoined, copy] = fd === undefined ? [false, -1] : this.#addon.copy(fd, address, port, timeoutMs);
    if (!isJoined) {
      return undefined;
    }
    socket.destroy();
    return copy < 0
      ? Readable.from([]).destroy(new Error('no copy'))
      : new Socket({ fd: copy, readable: true, writable: false });
  }

  addDoor(server: Server, address: IpBytes, port: number, timeoutMs: number): Door | undefined {
    const fd = descriptorOf(server);
    const door = fd === undefined ? -1 : this.#addon.addDoor(fd, address, port, timeoutMs);
    return door < 0 ? undefined : new NativeDoor(this.#addon, door);
  }

  dispose(): void {
    this.#addon.stop();
  }
}

class NativeDoor implements Door {
  readonly #addon: Addon;
  readonly #number: number;
  #isRemoved = false;

  constructor(addon: Addon, number: number) {
    this.#addon = addon;
    this.#number = number;
  }

  open(): void {
    this.#setOpen(true);
  }

  shut(): void {
    this.#setOpen(false);
  }

  descriptor(): number | undefined {
    const fd = this.#isRemoved ? -1 : this.#addon.descriptor(this.#number);
    return fd < 0 ? undefined : fd;
  }

  dispose(): void {
    // Its number may be another's by now.
    if (!this.#isRemoved) {
      this.#isRemoved = true;
      this.#addon.removeDoor(this.#number);
    }
  }

  #setOpen(isOpen: boolean): void {
    if (!this.#isRemoved) {
      this.#addon.setOpen(this.#number, isOpen);
    }
  }
}

/** Undefined where bytes of the caller's are here already. */
const untouched = (socket: Socket): number | undefined => (socket.bytesRead > 0 ? undefined : descriptorOf(socket));

/** Node keeps it where it has been for ten years, without a public name. */
function descriptorOf(socket: Socket | Server): number | undefined {
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: unknown } };
  return typeof handle?.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}
