import { type Clock, type Disposable, Emitter } from '../../base/index.ts';

/** Tells when something that can only be read has changed. A failed reading is no change. */
export class Poll implements Disposable {
  readonly #changed = new Emitter<void>();
  readonly onStateChanged = this.#changed.event;
  readonly #read: () => Promise<string>;
  readonly #timer: Disposable;
  #last: string | undefined;
  #isBusy = false;
  #isDisposed = false;

  /** `read` answers the same text for the same state. */
  constructor(clock: Clock, periodMs: number, read: () => Promise<string>) {
    this.#read = read;
    this.#timer = clock.every(periodMs, () => void this.#look());
  }

  /** What is there now is known: it is what later readings are compared with. */
  accept(state: string): void {
    this.#last = state;
  }

  dispose(): void {
    this.#isDisposed = true;
    void this.#timer.dispose();
  }

  async #look(): Promise<void> {
    if (this.#isBusy) {
      return;
    }
    this.#isBusy = true;
    const state = await this.#read().catch(() => undefined);
    this.#isBusy = false;
    const before = this.#last;
    this.#last = state ?? before;
    if (!this.#isDisposed && before !== undefined && state !== undefined && state !== before) {
      this.#changed.fire();
    }
  }
}
