import { type Clock, type Disposable, type Logger, Scope, toError } from '../../base/index.ts';
import { parseDuration, wire } from '../../protocol/index.ts';
import type { Store } from '../state/store.ts';
import type { Admission } from './admission.ts';
import type { LiveConfig } from './live.ts';

export interface LeaseDeps {
  readonly store: Store;
  readonly config: Pick<LiveConfig, 'current' | 'onChanged'>;
  readonly admission: Pick<Admission, 'check'>;
  readonly clock: Clock;
  readonly log: Logger;
}

const lookMs = 1_000;
/** A right that was taken away ends what stands on it within this time and that of the answers kept. */
const recheckMs = 60_000;
/** Whoever held it has read why by then. */
const saidMs = 10_000;
const { ACTIVE, WAITING, NO_AGENT } = wire.InterceptDispositionType;
const standing: ReadonlySet<number> = new Set([ACTIVE, WAITING, NO_AGENT]);

/** Ends attachments whose time is over, or that the owner or the cluster do not allow any more. */
export class AttachmentLeases implements Disposable {
  readonly #deps: LeaseDeps;
  readonly #scope = new Scope();
  readonly #startedMs = new Map<string, number>();
  readonly #endedMs = new Map<string, number>();

  constructor(deps: LeaseDeps) {
    this.#deps = deps;
    const { store, config, clock } = deps;
    this.#scope.own(store.onChanged(() => this.#notice()));
    this.#scope.own(config.onChanged(() => void this.recheck()));
    this.#scope.own(clock.every(lookMs, () => this.#look()));
    this.#scope.own(clock.every(recheckMs, () => void this.recheck()));
  }

  dispose(): void {
    void this.#scope.dispose();
  }

  /** Asks again about everything that stands. */
  async recheck(): Promise<void> {
    const { store, admission } = this.#deps;
    for (const { id, spec, clientSession, disposition } of [...store.intercepts.values()]) {
      if (!spec || !standing.has(disposition)) {
        continue;
      }
      const user = store.clients.get(clientSession?.sessionId ?? '')?.user;
      await admission
        .check({ user, namespace: spec.namespace, workload: spec.agent, spec })
        .catch((thrown: unknown) => {
          const error = toError(thrown);
          // An API server that cannot be asked takes nobody's attachment away.
          if (error.code === 'permission_denied' && error.reason.startsWith('manager.')) {
            this.#end(id, error.hint ? `${error.message}. ${error.hint}` : error.message);
          }
        });
    }
  }

  #notice(): void {
    const { intercepts } = this.#deps.store;
    for (const id of intercepts.keys()) {
      if (!this.#startedMs.has(id)) {
        this.#startedMs.set(id, this.#deps.clock.nowMs());
      }
    }
    for (const id of [...this.#startedMs.keys()].filter((each) => !intercepts.has(each))) {
      this.#startedMs.delete(id);
      this.#endedMs.delete(id);
    }
  }

  #look(): void {
    const { store, config, clock } = this.#deps;
    const now = clock.nowMs();
    for (const [id, endedMs] of [...this.#endedMs]) {
      if (now - endedMs >= saidMs) {
        store.removeIntercept(id);
      }
    }
    const text = config.current.policy.maxDuration;
    const maxMs = parseDuration(text);
    if (!maxMs) {
      return;
    }
    for (const [id, startedMs] of [...this.#startedMs]) {
      if (now - startedMs >= maxMs && !this.#endedMs.has(id)) {
        this.#end(
          id,
          `the owner of this cluster allows an attachment ${text}, and that is over. Attach again to go on`,
        );
      }
    }
  }

  #end(id: string, message: string): void {
    const { store, clock, log } = this.#deps;
    log.info('an attachment was ended', { name: store.intercepts.get(id)?.spec?.name, message });
    this.#endedMs.set(id, clock.nowMs());
    store.endIntercept(id, message);
  }
}
