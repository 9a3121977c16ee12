import type { Disposable } from './event.ts';

/**
 * Owns what lives: create and register on one line, `const x = scope.own(createX())`. Disposal is in reverse
 * order, awaits each, never stops half way, and what arrives after disposal is disposed at once.
 */
export class Scope {
  #owned: Disposable[] = [];
  #disposed: Promise<void> | undefined;
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void = () => undefined) {
    this.#onError = onError;
  }

  own<T extends Disposable>(disposable: T): T {
    if (this.#disposed) {
      void this.#release(disposable);
    } else {
      this.#owned.push(disposable);
    }
    return disposable;
  }

  /** Registers a function to be called at disposal. */
  defer(release: () => void | Promise<void>): void {
    this.own({ dispose: release });
  }

  get isDisposed(): boolean {
    return this.#disposed !== undefined;
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#releaseAll();
    return this.#disposed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #releaseAll(): Promise<void> {
    const owned = this.#owned.reverse();
    this.#owned = [];
    for (const disposable of owned) {
      await this.#release(disposable);
    }
  }

  async #release(disposable: Disposable): Promise<void> {
    try {
      await disposable.dispose();
    } catch (error) {
      this.#onError(error);
    }
  }
}
