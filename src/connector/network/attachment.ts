import { type Clock, type Disposable, Emitter, formatIp, type Logger, parseIp, Scope } from '../../base/index.ts';
import type { AppliedNetwork, DesiredNetwork, HealthCondition } from '../../protocol/index.ts';
import type { DaemonSockets, DaemonView } from '../contract.ts';
import { DaemonLink } from '../daemon-link/link.ts';
import type { ClusterDialerDeps } from '../outbound/dial.ts';
import { Outbound } from '../outbound/outbound.ts';
import { type Records, readSubnets, Translation } from './translation.ts';

export interface AttachmentDeps extends ClusterDialerDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly lookup: (name: string, qtype: number) => Promise<Records>;
  readonly desired: () => DesiredNetwork;
  /** The machine has slept: what was open may be dead. */
  readonly woke: () => void;
}

/**
 * This window's part of the daemon: what it asks for, where it listens, and what became of it. It ends when the daemon
 * does; then `view` says so.
 */
export class NetworkAttachment implements Disposable {
  readonly #deps: AttachmentDeps;
  readonly #link: DaemonLink;
  readonly #outbound: Outbound;
  readonly #translation = new Translation();
  readonly #scope = new Scope();
  readonly #changed = new Emitter<void>();
  readonly onChanged = this.#changed.event;
  readonly #listening: {
    address4?: string | undefined;
    address6?: string | undefined;
    port4?: number | undefined;
    port6?: number | undefined;
  } = {};
  #applying: Promise<unknown> = Promise.resolve();
  conditions: readonly HealthCondition[] = [];
  view: DaemonView = { state: 'attached', subnets: [] };

  private constructor(deps: AttachmentDeps, link: DaemonLink) {
    this.#deps = deps;
    this.#link = link;
    this.#scope.defer(() => link.close());
    this.#outbound = this.#scope.own(
      new Outbound({
        ...deps,
        daemon: link,
        log: deps.log.child('outbound'),
        toReal: (ip) => this.#translation.toReal(ip),
        lookup: (name, qtype) => this.#translation.lookup(name, qtype, deps.lookup),
      }),
    );
  }

  /** Errors: those of the daemon, `connector.daemon-unreachable`, `connector.daemon-refused`. */
  static async open(sockets: DaemonSockets, deps: AttachmentDeps): Promise<NetworkAttachment> {
    const link = await DaemonLink.open(sockets, deps.clock);
    const made = new NetworkAttachment(deps, link);
    try {
      await made.apply();
      const { dns, conditions } = await link.status();
      made.conditions = conditions ?? [];
      made.view = { ...made.view, version: link.version, ...(dns ? { dns } : {}) };
      made.#follow();
      return made;
    } catch (error) {
      await made.dispose();
      throw error;
    }
  }

  /** Asks for what is desired now. Errors: those of the daemon; then it keeps what it had. */
  apply(): Promise<void> {
    return this.#serially(async () => {
      const desired = this.#deps.desired();
      await this.#accept(desired, await this.#link.apply(desired));
      // What a name is mapped to may only now be known to have another address here.
      const translated = this.#translateMappings(desired);
      if (translated !== desired) {
        await this.#accept(desired, await this.#link.apply(translated));
      }
    });
  }

  async dispose(): Promise<void> {
    await this.#scope.dispose();
  }

  #follow(): void {
    this.#scope.own(
      this.#link.onNetworkReapplied((applied) => {
        void this.#serially(() => this.#accept(this.#deps.desired(), applied)).catch((error: unknown) =>
          this.#deps.log.warn('the network could not be followed', { error }),
        );
      }),
    );
    this.#scope.own(
      this.#link.onConditionsChanged((conditions) => {
        this.conditions = conditions;
        this.#changed.fire();
      }),
    );
    this.#scope.own(this.#link.onMachineWoken(() => this.#deps.woke()));
    this.#link.onLinkClosed(() => {
      this.view = { ...this.view, state: 'gone', subnets: [] };
      this.conditions = [];
      void this.#scope.dispose();
      this.#changed.fire();
    });
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#applying.then(work, work);
    this.#applying = result.catch(() => undefined);
    return result;
  }

  async #accept({ neverProxy, virtualSubnets }: DesiredNetwork, applied: AppliedNetwork): Promise<void> {
    const { device, subnets, translated } = applied;
    await this.#listen(applied);
    // Names change over when we listen at what may be another address, and before the daemon is told, which asks for them anew.
    this.#translation.plan = {
      translated: readSubnets(translated.map(({ subnet }) => subnet)),
      neverProxy: readSubnets(neverProxy),
      virtualSubnets: readSubnets(virtualSubnets),
    };
    const { port4, port6 } = this.#listening;
    await this.#link.listen({ ...(port4 ? { port4 } : {}), ...(port6 ? { port6 } : {}) });
    this.view = { ...this.view, device, subnets, translated };
    this.#changed.fire();
  }

  /** On the device's own addresses, which follow the subnets. */
  async #listen({ address4, address6 }: AppliedNetwork): Promise<void> {
    const now = this.#listening;
    if (address4 !== now.address4) {
      now.address4 = address4;
      now.port4 = address4 ? await this.#outbound.listen(address4) : undefined;
    }
    if (address6 !== now.address6) {
      now.address6 = address6;
      now.port6 = address6 ? await this.#outbound.listen(address6) : undefined;
    }
  }

  #translateMappings(desired: DesiredNetwork): DesiredNetwork {
    let isChanged = false;
    const mappings = desired.dns.mappings.map((mapping) => {
      const ip = parseIp(mapping.aliasFor);
      const virtual = ip && formatIp(this.#translation.toVirtual(ip));
      isChanged ||= virtual !== undefined && ip !== undefined && virtual !== formatIp(ip);
      return virtual ? { ...mapping, aliasFor: virtual } : mapping;
    });
    return isChanged ? { ...desired, dns: { ...desired.dns, mappings } } : desired;
  }
}
