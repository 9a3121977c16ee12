/** A subscription or anything else that ends. `dispose` may be called twice. */
export interface Disposable {
  dispose(): void | Promise<void>;
}

/** Exposed as `onNounPastParticiple`. The listener is called in order of subscription. */
export type Event<T> = (listener: (value: T) => void) => Disposable;

/** The firing half of an event. Keep it private; expose `event`. */
export class Emitter<T> {
  readonly #listeners = new Set<(value: T) => void>();

  readonly event: Event<T> = (listener) => {
    const own = (value: T): void => listener(value);
    this.#listeners.add(own);
    return {
      dispose: () => {
        this.#listeners.delete(own);
      },
    };
  };

  fire(value: T): void {
    for (const listener of [...this.#listeners]) {
      listener(value);
    }
  }

  get listenerCount(): number {
    return this.#listeners.size;
  }

  dispose(): void {
    this.#listeners.clear();
  }
}
