import type { IpBytes, Logger } from '../../../base/index.ts';
import type { ResolverBackend, ResolverPlan } from '../contract.ts';
import type { DnsRedirect } from './dns-redirect.ts';
import { isStub, type Resolved } from './resolved.ts';

/**
 * Where systemd-resolved runs, it is told; where a resolv.conf names others beside it, or it does not do what it is
 * told, the questions to those resolvers are led to us as well.
 */
export class LinuxResolver implements ResolverBackend {
  readonly #redirect: DnsRedirect;
  readonly #log: Logger;
  #resolved: Resolved | undefined;

  constructor(resolved: Resolved | undefined, redirect: DnsRedirect, log: Logger) {
    this.#resolved = resolved;
    this.#redirect = redirect;
    this.#log = log;
  }

  get kind(): ResolverBackend['kind'] {
    return (this.#resolved ?? this.#redirect).kind;
  }

  /** Errors: `daemon.resolver-failed`. */
  async apply(plan: ResolverPlan): Promise<void> {
    try {
      await this.#resolved?.apply(plan);
    } catch (error) {
      this.#log.warn('systemd-resolved does not ask us: its questions are redirected', { error });
      this.#resolved = undefined;
    }
    const resolvers = this.#resolved ? plan.resolvers.filter((each) => !isStub(each)) : plan.resolvers;
    await this.#redirect.apply({ ...plan, resolvers });
  }

  async clear(): Promise<void> {
    await this.#resolved?.clear();
    await this.#redirect.clear();
  }

  async upstreams(): Promise<readonly IpBytes[] | undefined> {
    return this.#resolved?.upstreams();
  }
}
