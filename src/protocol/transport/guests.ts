import { type Clock, isLoopback, type Logger, Seldom } from '../../base/index.ts';
import type { Caller } from './caller.ts';

/** Of the whole server: hundreds of clients with two each, and an agent in every pod of a thousand workloads. */
const maxSessions = 5_000;
/** Pods in their node's network share its address. */
const maxSessionsOfOne = 128;
/** Tunnels that nobody has vouched for yet: thousands may be opened in one turn. */
const maxTunnelsOfOne = 4_096;
/** Calls that are being served: a thousand names, and a watch of each namespace. */
const maxCallsOfOne = 2_048;
/** All that one API server brings: hundreds of developers with two connections each, and what they ask at once. */
const maxSessionsOfBringer = 1_500;
const maxStreamsOfBringer = 16_384;
/** All that is brought: who has no room there comes by a port-forward, and agents come by themselves. */
const maxSessionsBrought = 2_500;
const maxStreamsBrought = 32_768;
/** Bodies of requests that are still on their way. */
const maxBodyBytes = 32 * 1024 * 1024;

/** Given back once; more often does nothing. */
export type Leave = () => void;

interface Guest {
  sessions: number;
  tunnels: number;
  calls: number;
}

export interface GuestsDeps {
  readonly clock: Clock;
  readonly log?: Logger | undefined;
}

/**
 * What each caller holds of a server that everybody in the cluster can reach. A pod is known by its address. Forwarded
 * connections all come from the loopback address: there each is a caller of its own, which the API server has admitted.
 * What the API server's proxy brings is a caller of its own as well; but anybody can say that they are that proxy, so that
 * all that one address brings has a limit too.
 */
export class Guests {
  readonly #clock: Clock;
  readonly #log: Logger | undefined;
  readonly #guests = new Map<Caller | string, Guest>();
  readonly #lines = new Map<string, Seldom>();
  #sessions = 0;
  #bodyBytes = 0;

  constructor({ clock, log }: GuestsDeps) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Undefined: one too many. */
  session(caller: Caller): Leave | undefined {
    const leave = this.#sessions < maxSessions ? this.#take(caller, 'sessions') : undefined;
    if (!leave) {
      this.note('too many connections', caller);
      return undefined;
    }
    this.#sessions++;
    return once(() => {
      this.#sessions--;
      leave();
    });
  }

  stream(caller: Caller, what: 'tunnels' | 'calls'): Leave | undefined {
    const leave = this.#take(caller, what);
    if (!leave) {
      this.note('too many calls at once', caller);
    }
    return leave && once(leave);
  }

  /** The same chunks, for as long as all that is on its way fits. `onTooMuch` ends the call. */
  async *metered<T extends { readonly length: number }>(
    chunks: AsyncIterable<T>,
    caller: Caller,
    onTooMuch: () => void,
  ): AsyncGenerator<T> {
    let held = 0;
    try {
      for await (const chunk of chunks) {
        held += chunk.length;
        this.#bodyBytes += chunk.length;
        if (this.#bodyBytes > maxBodyBytes) {
          this.note('too many bytes of requests at once', caller);
          onTooMuch();
          return;
        }
        yield chunk;
      }
    } finally {
      this.#bodyBytes -= held;
    }
  }

  /** One line of a kind in a while, with how many more there were. */
  note(what: string, { address, broughtBy }: Caller, fields: Readonly<Record<string, unknown>> = {}): void {
    const line = this.#lines.get(what) ?? new Seldom(this.#clock);
    this.#lines.set(what, line);
    const more = line.next();
    if (more !== undefined) {
      this.#log?.info('a caller was refused', { what, address: address || broughtBy, more, ...fields });
    }
  }

  /** Undefined when one of those that it counts for has no room. */
  #take(caller: Caller, what: keyof Guest): Leave | undefined {
    const counted = countedFor(caller).map(({ key, limits }) => {
      const guest = this.#guests.get(key) ?? { sessions: 0, tunnels: 0, calls: 0 };
      this.#guests.set(key, guest);
      return { key, guest, limit: limits[what] };
    });
    const hasRoom = counted.every(({ guest, limit }) => guest[what] < limit);
    for (const { guest } of counted) {
      guest[what]++;
    }
    const leave = (): void => {
      for (const { key, guest } of counted) {
        guest[what]--;
        if (guest.sessions + guest.tunnels + guest.calls === 0) {
          this.#guests.delete(key);
        }
      }
    };
    if (!hasRoom) {
      leave();
    }
    return hasRoom ? leave : undefined;
  }
}

const one: Guest = { sessions: maxSessionsOfOne, tunnels: maxTunnelsOfOne, calls: maxCallsOfOne };
const bringer: Guest = {
  sessions: maxSessionsOfBringer,
  tunnels: maxStreamsOfBringer,
  calls: maxStreamsOfBringer,
};
const brought: Guest = { sessions: maxSessionsBrought, tunnels: maxStreamsBrought, calls: maxStreamsBrought };

interface Counted {
  readonly key: Caller | string;
  readonly limits: Readonly<Guest>;
}

function countedFor(caller: Caller): Counted[] {
  const { address, broughtBy } = caller;
  const self = { key: address === '' || isLoopback(address) ? caller : address, limits: one };
  return broughtBy === undefined
    ? [self]
    : [self, { key: `by ${broughtBy}`, limits: bringer }, { key: 'by anybody', limits: brought }];
}

function once(work: () => void): Leave {
  let isDone = false;
  return () => {
    if (!isDone) {
      isDone = true;
      work();
    }
  };
}
