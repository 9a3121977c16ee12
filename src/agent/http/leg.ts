import type { Duplex } from 'node:stream';
import type { Clock } from '../../base/index.ts';
import { type AppAddress, dialApp } from '../port/app.ts';
import type { Diversion } from '../port/diversion.ts';
import { breakOff } from '../port/join.ts';
import type { Caller, Diverter } from '../tunnel/diverter.ts';
import { toDuplex } from '../tunnel/duplex.ts';
import { ByteReader } from './reader.ts';

export interface LegDeps extends AppAddress {
  readonly caller: Caller;
  readonly diverter: Diverter;
  readonly clock: Clock;
}

/** A connection behind the agent that belongs to one caller: to the application, or to a developer's program. */
export interface Leg {
  readonly duplex: Duplex;
  readonly reader: ByteReader;
  /** Has answered before: when it fails now, it may only have been closed for being idle. */
  hasServed: boolean;
}

/** A connection to a developer's program, or without one to the application; undefined when there is none to be had. */
export async function openDuplex(deps: LegDeps, target: Diversion | undefined): Promise<Duplex | undefined> {
  if (!target) {
    return await dialApp(deps.clock, deps);
  }
  const tunnel = await deps.diverter.open(deps.caller, target).taken;
  return tunnel && toDuplex(tunnel);
}

/** The connections behind one caller's connection, at most one to each target. */
export class Legs {
  readonly #deps: LegDeps;
  readonly #onAppGone: () => void;
  readonly #legs = new Map<string, Leg>();
  #isClosed = false;

  /** `onAppGone`: the application has closed a connection that was idle. */
  constructor(deps: LegDeps, onAppGone: () => void) {
    this.#deps = deps;
    this.#onAppGone = onAppGone;
  }

  async open(target: Diversion | undefined): Promise<Leg | undefined> {
    const key = target?.interceptId ?? '';
    const kept = this.#legs.get(key);
    if (kept && isUsable(kept)) {
      return kept;
    }
    this.drop(kept);
    const duplex = await openDuplex(this.#deps, target);
    if (!duplex || this.#isClosed) {
      duplex?.destroy();
      return undefined;
    }
    const leg: Leg = { duplex, reader: new ByteReader(duplex), hasServed: false };
    this.#legs.set(key, leg);
    const gone = (): void => {
      if (this.#legs.get(key) === leg) {
        this.#legs.delete(key);
        if (!target) {
          this.#onAppGone();
        }
      }
    };
    duplex.on('error', () => undefined);
    duplex.once('end', gone);
    duplex.once('close', gone);
    return leg;
  }

  /** It is of no use any more. */
  drop(leg: Leg | undefined): void {
    for (const [key, each] of this.#legs) {
      if (each === leg) {
        this.#legs.delete(key);
      }
    }
    leg?.duplex.destroy();
  }

  /** The caller is gone, in order or not. */
  close(isFailure: boolean): void {
    this.#isClosed = true;
    for (const { duplex } of this.#legs.values()) {
      if (isFailure) {
        breakOff(duplex);
      } else {
        // Both ends know where the last message ended.
        duplex.end(() => duplex.destroy());
      }
    }
    this.#legs.clear();
  }
}

/** Neither ended nor with an answer that nobody asked for. */
const isUsable = ({ duplex, reader }: Leg): boolean =>
  !duplex.destroyed && duplex.writable && !duplex.readableEnded && !reader.hasMore;
