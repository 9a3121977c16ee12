import { type Clock, type Disposable, Emitter, type Event, type Logger } from '../../base/index.ts';
import { type Kube, kinds, type V1Namespace } from '../../kube/index.ts';
import { type LabelSelector, selects } from '../../protocol/index.ts';

/** Labels of namespaces hardly ever change, and asking for one needs no right that is not needed anyway. */
const refreshMs = 30_000;

export interface ManagedDeps {
  readonly kube: Pick<Kube, 'get'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Undefined: every namespace. */
  readonly selector: LabelSelector | undefined;
}

/** Which namespaces the manager works in, by their labels. What was never asked about is not managed yet. */
export class ManagedNamespaces implements Disposable {
  readonly #deps: ManagedDeps;
  readonly #known = new Map<string, boolean>();
  readonly #asking = new Map<string, Promise<boolean>>();
  readonly #changed = new Emitter<void>();
  readonly #timer: Disposable | undefined;
  /** Of a namespace that somebody has asked about. */
  readonly onChanged: Event<void> = this.#changed.event;

  constructor(deps: ManagedDeps) {
    this.#deps = deps;
    this.#timer = deps.selector && deps.clock.every(refreshMs, () => this.#refresh());
  }

  dispose(): void {
    void this.#timer?.dispose();
    this.#changed.dispose();
  }

  /** What is known, at once; `onChanged` says when there is more. */
  has(namespace: string): boolean {
    if (!this.#deps.selector) {
      return true;
    }
    const known = this.#known.get(namespace);
    if (known === undefined) {
      void this.ask(namespace);
    }
    return known === true;
  }

  /** What is true now. Where it cannot be seen it stays as it was. */
  ask(namespace: string): Promise<boolean> {
    const { selector } = this.#deps;
    if (!selector) {
      return Promise.resolve(true);
    }
    const asking = this.#asking.get(namespace) ?? this.#ask(selector, namespace);
    this.#asking.set(namespace, asking);
    return asking;
  }

  async #ask(selector: LabelSelector, namespace: string): Promise<boolean> {
    const { kube, log } = this.#deps;
    const before = this.#known.get(namespace) === true;
    try {
      const found = await kube.get<V1Namespace>(kinds.namespace, namespace);
      const isManaged = found !== undefined && selects(selector, found.metadata?.labels ?? {});
      if (found) {
        this.#known.set(namespace, isManaged);
      } else {
        this.#known.delete(namespace);
      }
      if (isManaged !== before) {
        log.info('a namespace is managed', { namespace, isManaged });
        this.#changed.fire();
      }
      return isManaged;
    } catch (error) {
      log.debug('the namespace cannot be looked at', { namespace, error });
      this.#known.set(namespace, before);
      return before;
    } finally {
      this.#asking.delete(namespace);
    }
  }

  #refresh(): void {
    for (const namespace of this.#known.keys()) {
      void this.ask(namespace);
    }
  }
}
