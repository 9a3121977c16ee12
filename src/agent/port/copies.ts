import type { Readable } from 'node:stream';
import { type Disposable, Seldom } from '../../base/index.ts';
import type { Caller } from '../tunnel/diverter.ts';
import type { Diversion } from './diversion.ts';
import { Tap, type TapDeps } from './tap.ts';

/**
 * Copies of one port that are open; and of those the ones that wait for the developer's side: to be taken, or to be ended after
 * all was said. A program that keeps up has a few of them for some milliseconds.
 */
const limits = { open: 256, waiting: 32 };
/** Full once, it stays so for this long at least: changing over is not free either. */
const restMs = 250;

/**
 * The copies that are made of the connections to one port. A tunnel for each costs more than the connection itself, so where
 * there are too many at once some are not copied: the caller is never the one who waits.
 */
export class Copies implements Disposable {
  readonly #deps: TapDeps;
  readonly #onChanged: () => void;
  readonly #open = new Set<Tap>();
  readonly #line: Seldom;
  #waiting = 0;
  #isFull = false;
  #rest: Disposable | undefined;

  /** `onChanged` is called when it becomes full, and when there is room again. */
  constructor(deps: TapDeps, onChanged: () => void) {
    this.#deps = deps;
    this.#onChanged = onChanged;
    this.#line = new Seldom(deps.clock);
  }

  /** Nothing more is copied for now. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** A copy for each of them, of what comes here; it ends when all of them are over. */
  feed(copy: Readable, caller: Caller, diversions: readonly Diversion[]): void {
    const taps = diversions.map((diversion) =>
      this.open(caller, diversion, () => {
        if (taps.every(({ isOver }) => isOver)) {
          copy.destroy();
        }
      }),
    );
    copy.on('data', (chunk: Buffer) => {
      for (const tap of taps) {
        tap.write(chunk);
      }
    });
    copy.on('end', () => {
      for (const tap of taps) {
        tap.end();
      }
    });
    copy.on('error', () => {
      for (const tap of taps) {
        tap.breakOff();
      }
    });
  }

  open(caller: Caller, diversion: Diversion, onOver: () => void = () => undefined): Tap {
    let isWaiting = false;
    const wait = (waits: boolean): void => {
      this.#waiting += Number(waits) - Number(isWaiting);
      isWaiting = waits;
      this.#look();
    };
    wait(true);
    const tap = new Tap(this.#deps, caller, diversion, {
      onTaken: () => wait(false),
      onSaid: () => wait(true),
      onOver: () => {
        this.#open.delete(tap);
        wait(false);
        onOver();
      },
    });
    this.#open.add(tap);
    this.#look();
    return tap;
  }

  dispose(): void {
    void this.#rest?.dispose();
  }

  #look(): void {
    const { open, waiting } = limits;
    if (!this.#isFull && (this.#open.size >= open || this.#waiting >= waiting)) {
      this.#isFull = true;
      this.#note();
      this.#rest = this.#deps.clock.after(restMs, () => {
        this.#rest = undefined;
        this.#look();
      });
      this.#onChanged();
    } else if (this.#isFull && !this.#rest && this.#open.size <= open / 2 && this.#waiting <= waiting / 2) {
      this.#isFull = false;
      this.#onChanged();
    }
  }

  #note(): void {
    if (this.#line.next() !== undefined) {
      this.#deps.log.info('too many connections at once for a wiretap: some are not copied', {
        open: this.#open.size,
        waiting: this.#waiting,
      });
    }
  }
}
