import type { Clock } from '../../base/index.ts';

/** Asks the manager whether a session is one of a client's; false as well when it cannot be asked. */
export type AskManager = (sessionId: string) => Promise<boolean>;

/** A session that has ended is believed for this long at most. */
const believedMs = 30_000;
const maxAsked = 32;
const maxKept = 1_000;

/**
 * Which clients may use the pod's network. An agent hears of those that are attached to it; stock clients use any agent
 * of their namespace, so others are asked for at the manager.
 */
export class KnownClients {
  readonly #clock: Clock;
  readonly #ask: AskManager;
  readonly #believed = new Map<string, number>();
  #attached: ReadonlySet<string> = new Set();
  #asked = 0;

  constructor(clock: Clock, ask: AskManager) {
    this.#clock = clock;
    this.#ask = ask;
  }

  setAttached(sessionIds: ReadonlySet<string>): void {
    this.#attached = sessionIds;
  }

  async has(sessionId: string): Promise<boolean> {
    if (this.#attached.has(sessionId)) {
      return true;
    }
    const until = this.#believed.get(sessionId);
    if (until !== undefined && until > this.#clock.nowMs()) {
      return true;
    }
    this.#believed.delete(sessionId);
    // Agents' ids can be guessed: they are made of the pod's.
    if (sessionId === '' || sessionId.startsWith('agent:') || this.#asked >= maxAsked) {
      return false;
    }
    this.#asked++;
    try {
      const isKnown = await this.#ask(sessionId);
      if (isKnown) {
        this.#forgetOldest();
        this.#believed.set(sessionId, this.#clock.nowMs() + believedMs);
      }
      return isKnown;
    } finally {
      this.#asked--;
    }
  }

  #forgetOldest(): void {
    const [oldest] = this.#believed.keys();
    if (oldest !== undefined && this.#believed.size >= maxKept) {
      this.#believed.delete(oldest);
    }
  }
}
