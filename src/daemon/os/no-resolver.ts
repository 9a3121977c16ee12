import type { Logger } from '../../base/index.ts';
import type { ResolverBackend } from './contract.ts';

/** Where nothing leads the machine's programs to our DNS server: connections by address work all the same. */
export class NoResolver implements ResolverBackend {
  readonly kind = 'none';
  readonly #log: Logger;
  #isSaid = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  async apply(): Promise<void> {
    if (!this.#isSaid) {
      this.#isSaid = true;
      this.#log.warn('names of the cluster are not resolved on this system: only addresses work');
    }
  }

  async clear(): Promise<void> {}
}
