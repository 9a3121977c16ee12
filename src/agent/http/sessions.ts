import { type ClientHttp2Session, connect } from 'node:http2';
import { withTimeout } from '../../base/index.ts';
import type { Diversion } from '../port/diversion.ts';
import { type LegDeps, openDuplex } from './leg.ts';
import { windowBytes } from './wire-two.ts';

const sessionWindowBytes = 16 * 1024 * 1024;
/** A program that takes connections and does not speak HTTP/2 is none that answers. */
const settingsTimeoutMs = 5_000;

/** HTTP/2 connections behind one caller's connection, at most one to each target. */
export class SessionLegs {
  readonly #deps: LegDeps;
  readonly #onFarewell: () => void;
  readonly #sessions = new Map<string, Promise<ClientHttp2Session | undefined>>();
  readonly #open = new Set<ClientHttp2Session>();
  #isClosed = false;

  /** `onFarewell`: the application wants no more streams on a connection. */
  constructor(deps: LegDeps, onFarewell: () => void) {
    this.#deps = deps;
    this.#onFarewell = onFarewell;
  }

  /** Undefined when there is none to be had. */
  async open(target: Diversion | undefined): Promise<ClientHttp2Session | undefined> {
    const key = target?.interceptId ?? '';
    const kept = this.#sessions.get(key);
    const session = await kept;
    if (session && !session.closed && !session.destroyed) {
      return session;
    }
    if (this.#sessions.get(key) === kept) {
      this.#sessions.delete(key);
    }
    // Whoever came first opens it for all.
    return await (this.#sessions.get(key) ?? this.#connect(key, target));
  }

  close(): void {
    this.#isClosed = true;
    for (const session of this.#open) {
      session.destroy();
    }
  }

  #connect(key: string, target: Diversion | undefined): Promise<ClientHttp2Session | undefined> {
    const opening = this.#handshake(key, target);
    this.#sessions.set(key, opening);
    return opening;
  }

  async #handshake(key: string, target: Diversion | undefined): Promise<ClientHttp2Session | undefined> {
    const duplex = await openDuplex(this.#deps, target);
    if (!duplex || this.#isClosed) {
      duplex?.destroy();
      return undefined;
    }
    const session = connect('http://pod', {
      createConnection: () => duplex,
      settings: { initialWindowSize: windowBytes, enablePush: false },
    });
    this.#open.add(session);
    session.on('error', () => undefined);
    duplex.on('error', () => undefined);
    session.once('close', () => {
      this.#open.delete(session);
      duplex.destroy();
    });
    session.once('goaway', () => {
      this.#sessions.delete(key);
      if (!target) {
        this.#onFarewell();
      }
    });
    const isAlive = await withTimeout(
      this.#deps.clock,
      settingsTimeoutMs,
      'the settings',
      () =>
        new Promise<boolean>((resolve) => {
          session.once('remoteSettings', () => resolve(true));
          session.once('close', () => resolve(false));
        }),
    ).catch(() => false);
    if (!isAlive) {
      session.destroy();
      return undefined;
    }
    session.setLocalWindowSize(sessionWindowBytes);
    return session;
  }
}
