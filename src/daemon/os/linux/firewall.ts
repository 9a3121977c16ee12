import { type Clock, type Disposable, type Logger, toError } from '../../../base/index.ts';
import type { RunCommand } from '../command.ts';
import type { FirewallBackend } from '../contract.ts';
import { createLegacyFirewall } from './firewall-legacy.ts';
import { createNftFirewall } from './firewall-nft.ts';
import type { FirewallKind } from './firewall-rules.ts';
import { createFirewalld } from './firewalld.ts';

export interface FirewallDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly run: RunCommand;
  /** Text of a small file; undefined where there is none. */
  readonly read: (path: string) => string | undefined;
}

/** Somebody who reloads a firewall waits about as long for it. */
const checkEveryMs = 5_000;

/**
 * Lets the device's packets in. The kernel finishes their handshakes at the connector's listener on the device's own
 * address, so an INPUT chain that drops by default would block us, and an accept in a table of our own does not help:
 * a later chain's drop is final. One marked rule for our device goes to the head of each such chain.
 *
 * OUTPUT and FORWARD are left alone. What OUTPUT drops, the user's programs may not reach; and opening FORWARD would
 * let neighbours of this machine into the cluster: container engines bring the rules that their containers need.
 */
export class LinuxFirewall implements FirewallBackend {
  readonly #deps: FirewallDeps;
  readonly #kinds: readonly FirewallKind[];
  readonly #watched = new Map<string, Disposable>();
  readonly #failures = new Map<FirewallKind, string>();
  #working: Promise<void> = Promise.resolve();

  constructor(deps: FirewallDeps) {
    this.#deps = deps;
    this.#kinds = [
      createNftFirewall(deps.run),
      createLegacyFirewall(deps.run, deps.read),
      createFirewalld(deps.run, deps.read),
    ];
  }

  /** Never rejects: without a way through the firewall there is still a network to look at. */
  async open(device: string): Promise<void> {
    if (!this.#watched.has(device)) {
      let isChecking = false;
      // A reload takes our rule away; firewalls have no common way to say so.
      const timer = this.#deps.clock.every(checkEveryMs, () => {
        if (!isChecking) {
          isChecking = true;
          void this.#converge(device).finally(() => {
            isChecking = false;
          });
        }
      });
      this.#watched.set(device, timer);
    }
    await this.#converge(device);
  }

  async close(device: string): Promise<void> {
    void this.#watched.get(device)?.dispose();
    this.#watched.delete(device);
    await this.#serially((kind) => kind.close(device));
  }

  #converge(device: string): Promise<void> {
    return this.#serially(async (kind) => {
      // A check that was under way when the device was closed must not open it again.
      if (this.#watched.has(device)) {
        await kind.open(device);
      }
    });
  }

  #serially(work: (kind: FirewallKind) => Promise<void>): Promise<void> {
    this.#working = this.#working.then(async () => {
      for (const kind of this.#kinds) {
        await work(kind).then(
          () => this.#failures.delete(kind),
          (error: unknown) => this.#failed(kind, error),
        );
      }
    });
    return this.#working;
  }

  /** Said once, not with every check. */
  #failed(kind: FirewallKind, error: unknown): void {
    const { message } = toError(error);
    if (this.#failures.get(kind) !== message) {
      this.#failures.set(kind, message);
      this.#deps.log.warn('a firewall may block the cluster: our rule could not be set', { kind: kind.name, error });
    }
  }
}
