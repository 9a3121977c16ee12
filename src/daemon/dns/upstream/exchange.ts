import { type Clock, type Disposable, timedOut } from '../../../base/index.ts';
import { upstreamFailed } from '../../errors.ts';
import { rcodeOf } from '../codec.ts';
import { rcode } from '../wire.ts';

/** What became of one attempt. */
export interface Attempt {
  answered(answer: Buffer): void;
  failed(error: unknown): void;
}

/** A way to one resolver. `ask` answers a function that gives the attempt up. */
export interface Link extends Disposable {
  ask(message: Buffer, attempt: Attempt): () => void;
}

/** All attempts together: what a program's own resolver waits at least. */
const timeoutMs = 4_000;
/** Then the next resolver is asked as well, or the same one again: datagrams get lost. */
const attemptMs = 1_000;
const maxDatagrams = 4;

export interface Outcome {
  readonly answered: (answer: Buffer, index: number) => void;
  readonly failed: (error: unknown) => void;
}

export interface ExchangeOptions {
  readonly clock: Clock;
  readonly links: readonly Link[];
  readonly message: Buffer;
  /** Whether a question may be lost on the way, so that it is worth asking the same resolver again. */
  readonly mayBeLost: boolean;
}

/** One question: asked here and there until one answer counts. */
export class Exchange {
  readonly #clock: Clock;
  readonly #links: readonly Link[];
  readonly #message: Buffer;
  readonly #maxAttempts: number;
  readonly #outcome: Outcome;
  readonly #giveUp: (() => void)[] = [];
  readonly #startedMs: number;
  #timer: Disposable | undefined;
  #attempts = 0;
  #failures = 0;
  #isOver = false;
  /** An answer that says no more than that this resolver cannot: kept in case that the others can neither. */
  #poor: { readonly answer: Buffer; readonly index: number } | undefined;

  constructor({ clock, links, message, mayBeLost }: ExchangeOptions, outcome: Outcome) {
    this.#clock = clock;
    this.#links = links;
    this.#message = message;
    this.#maxAttempts = mayBeLost ? maxDatagrams : Math.min(maxDatagrams, links.length);
    this.#outcome = outcome;
    this.#startedMs = clock.nowMs();
  }

  start(): void {
    this.#next();
  }

  end(error: unknown): void {
    if (this.#isOver) {
      return;
    }
    this.#finish();
    if (this.#poor) {
      this.#outcome.answered(this.#poor.answer, this.#poor.index);
    } else {
      this.#outcome.failed(error);
    }
  }

  #next(): void {
    void this.#timer?.dispose();
    const index = this.#attempts++ % Math.max(1, this.#links.length);
    const link = this.#links[index];
    if (!link) {
      this.end(upstreamFailed('the machine has no resolver'));
      return;
    }
    this.#timer = this.#clock.after(this.#waitMs(), () =>
      this.#attempts < this.#maxAttempts && this.#clock.nowMs() - this.#startedMs < timeoutMs
        ? this.#next()
        : this.end(timedOut('the resolver upstream', timeoutMs)),
    );
    this.#giveUp.push(
      link.ask(this.#message, {
        answered: (answer) => this.#answered(answer, index),
        failed: (error) => this.#failed(error),
      }),
    );
  }

  /** The last attempt has what is left. */
  #waitMs(): number {
    return this.#attempts < this.#maxAttempts ? attemptMs : timeoutMs - (this.#clock.nowMs() - this.#startedMs);
  }

  #answered(answer: Buffer, index: number): void {
    if (this.#isOver) {
      return;
    }
    if (rcodeOf(answer) === rcode.servfail || rcodeOf(answer) === rcode.refused) {
      this.#poor ??= { answer, index };
      this.#failed(undefined);
      return;
    }
    this.#finish();
    this.#outcome.answered(answer, index);
  }

  /** The next resolver is asked at once; when all have failed there is nothing to wait for. */
  #failed(error: unknown): void {
    if (this.#isOver) {
      return;
    }
    this.#failures++;
    if (this.#failures >= Math.max(this.#links.length, this.#attempts)) {
      this.end(error ?? upstreamFailed('no resolver answers'));
    } else if (this.#attempts < this.#links.length) {
      this.#next();
    }
  }

  #finish(): void {
    this.#isOver = true;
    void this.#timer?.dispose();
    for (const giveUp of this.#giveUp) {
      giveUp();
    }
  }
}
