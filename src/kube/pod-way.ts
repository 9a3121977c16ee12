import type { Duplex } from 'node:stream';
import { type Clock, sleep } from '../base/index.ts';
import type { PodProxyOptions, Upgrade } from './pod-proxy.ts';
import type { PortForwardOptions } from './port-forward.ts';

export interface ConnectToPodOptions extends PortForwardOptions {
  readonly upgrade: Upgrade;
}

export interface PodWayDeps {
  readonly clock: Clock;
  readonly openPodProxy: (options: PodProxyOptions) => Promise<Duplex>;
  readonly openPortForward: (options: PortForwardOptions) => Promise<Duplex>;
}

export type Way = 'proxy' | 'port-forward';

/** Beyond, a port-forward is tried beside it: packets to pods may vanish, and nobody says so. */
const headStartMs = 500;
/**
 * A role, a network policy, what runs in the pods: where there was no way there is none for a while. Briefly at first, since a
 * pod may just have been starting, and each time for longer.
 */
const rememberMs = { first: 10_000, longest: 5 * 60_000 };

/** Of two ways to a pod the shorter one that there is: the API server's own proxy, or a port-forward. */
export class PodWay {
  readonly #deps: PodWayDeps;
  /** Namespaces whose pods the proxy did not lead to, until when that is believed, and for how long it was. */
  readonly #closed = new Map<string, { readonly until: number; readonly ms: number }>();

  /** How the pods of a namespace were reached last. */
  readonly #latest = new Map<string, Way>();

  constructor(deps: PodWayDeps) {
    this.#deps = deps;
  }

  /** Errors: those of the port-forward. */
  async open({ upgrade, ...options }: ConnectToPodOptions): Promise<Duplex> {
    const { clock, openPodProxy, openPortForward } = this.#deps;
    const { namespace } = options;
    if ((this.#closed.get(namespace)?.until ?? 0) > clock.nowMs()) {
      return openPortForward(options);
    }
    const over = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, over.signal]) : over.signal;
    const failed = new AbortController();
    const proxied = openPodProxy({ ...options, upgrade, signal });
    proxied.catch(() => failed.abort());
    const forwarded = sleep(clock, headStartMs, AbortSignal.any([signal, failed.signal]))
      .catch(() => signal.throwIfAborted())
      .then(() => openPortForward({ ...options, signal }));
    const first = await Promise.any([
      proxied.then((duplex) => ({ duplex, isForwarded: false })),
      forwarded.then((duplex) => ({ duplex, isForwarded: true })),
    ]).catch(() => undefined);
    over.abort();
    if (!first) {
      // Nothing of a pod that nobody reaches is remembered: it may be about to start.
      return forwarded;
    }
    // Whoever comes second is not wanted any more.
    const second = first.isForwarded ? proxied : forwarded;
    second.then((duplex) => duplex.destroy()).catch(() => undefined);
    this.#remember(namespace, first.isForwarded);
    return first.duplex;
  }

  /** Undefined while none of the namespace's pods was reached. */
  latest(namespace: string): Way | undefined {
    return this.#latest.get(namespace);
  }

  #remember(namespace: string, isClosed: boolean): void {
    this.#latest.set(namespace, isClosed ? 'port-forward' : 'proxy');
    if (!isClosed) {
      this.#closed.delete(namespace);
      return;
    }
    const before = this.#closed.get(namespace);
    const ms = before ? Math.min(before.ms * 2, rememberMs.longest) : rememberMs.first;
    this.#closed.set(namespace, { until: this.#deps.clock.nowMs() + ms, ms });
  }
}
