import type { Socket } from 'node:net';
import { uptime } from 'node:os';
import { type Clock, formatIp, formatSubnet, type Logger, Scope } from '../base/index.ts';
import {
  type AppliedNetwork,
  clientVersion,
  type DaemonStatus,
  type DesiredNetwork,
  type DialFrame,
  daemonMethod,
  daemonSocketPaths,
} from '../protocol/index.ts';
import { type ControlClient, createControlServer } from './control/server.ts';
import { createDialServer, type DialChannel, type DialClient } from './dial/channel.ts';
import type { LookupResult } from './dns/server.ts';
import { alreadyRunning, inUse, notAttached, socketsLost } from './errors.ts';
import { waitForCleanUp } from './life/janitor.ts';
import { answers, openSockets, removeSockets } from './life/sockets.ts';
import { watchWake } from './life/wake.ts';
import { type Applied, MachineNetwork, type NetworkWindow } from './network/network.ts';
import type { Platform } from './os/contract.ts';

export interface DaemonDeps {
  readonly clock: Clock;
  readonly log: Logger;
  readonly platform: Platform;
  /** Time since the machine's start, sleep included. */
  readonly bootMs?: () => number;
}

export interface DaemonOptions {
  readonly uid: number;
  readonly gid: number;
  readonly runtimeDirectory: string;
  /** 0 for a service: it stays. */
  readonly idleExitMs: number;
  readonly isService?: boolean;
}

const quitDelayMs = 50;
/** A machine that has moved to another network asks its new resolver for so long before we do. */
const checkResolversMs = 5_000;
const servfail = 2;

/** One window: the connector at the other end of both sockets. */
interface Window extends NetworkWindow {
  readonly client: ControlClient;
  channel: DialChannel | undefined;
}

/** The root process's core: one user's windows and the network that they share. */
export class Daemon {
  readonly #deps: DaemonDeps;
  readonly #options: DaemonOptions;
  readonly #scope = new Scope();
  readonly #windows = new Map<string, Window>();
  readonly #lookups = new Map<number, { readonly window: string; readonly resolve: (result: LookupResult) => void }>();
  readonly #network: MachineNetwork;
  readonly #startedMs: number;
  readonly #ended = Promise.withResolvers<void>();
  #applying: Promise<unknown> = Promise.resolve();
  #nextLookup = 1;
  #idleSinceMs: number;

  constructor(deps: DaemonDeps, options: DaemonOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#network = new MachineNetwork({ ...deps, uid: options.uid });
    this.#startedMs = deps.clock.nowMs();
    this.#idleSinceMs = this.#startedMs;
  }

  /** Resolves when the daemon is to exit. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Errors: `daemon.already-running`. Whatever a killed predecessor left is removed first. */
  async start(): Promise<void> {
    const { uid, gid, runtimeDirectory, idleExitMs } = this.#options;
    const { clock, log, platform, bootMs = () => uptime() * 1000 } = this.#deps;
    const paths = daemonSocketPaths(uid, runtimeDirectory);
    if (await answers(paths.control, clock)) {
      throw alreadyRunning();
    }
    const control = createControlServer({ uid, clock, log: log.child('control'), handlers: this.#handlers() });
    const dial = createDialServer({ clock, log: log.child('dial'), claim: (token) => this.#claim(token) });
    for (const server of [control, dial]) {
      // Whoever finds a way past the directory is still a stranger.
      server.prependListener('connection', (socket: Socket) => {
        const peer = platform.peerOf(socket);
        if (peer !== uid && peer !== 0) {
          log.warn('a connection of another user was refused', { peer });
          socket.destroy();
        }
      });
    }
    this.#scope.defer(() => {
      control.close();
      dial.close();
      removeSockets(paths);
    });
    // Nothing is applied before the clean-up is done, whoever attaches meanwhile.
    await this.#serially(async () => {
      await waitForCleanUp(paths, clock);
      await openSockets(paths, { uid, gid }, [
        [control, paths.control],
        [dial, paths.dial],
      ]);
      // One that began in between may have taken our sockets for a dead daemon's.
      if ((await waitForCleanUp(paths, clock)) && !(await answers(paths.control, clock))) {
        throw socketsLost();
      }
      await platform.cleanUp(uid);
    });
    this.#scope.own(
      clock.every(1_000, () => {
        if (idleExitMs > 0 && this.#windows.size === 0 && clock.nowMs() - this.#idleSinceMs > idleExitMs) {
          log.info('nobody is connected: ending');
          this.#ended.resolve();
        }
      }),
    );
    this.#scope.own(
      this.#network.onNetworkChanged(() => {
        void this.#serially(() => this.#network.reapply()).catch((error: unknown) =>
          log.warn('the routes could not be followed', { error }),
        );
      }),
    );
    this.#scope.own(
      this.#network.onConditionsChanged((conditions) => {
        for (const { client } of this.#windows.values()) {
          client.notify(daemonMethod.health, { conditions });
        }
      }),
    );
    this.#scope.own(watchWake({ clock, bootMs }, (sleptMs) => this.#wake(sleptMs)));
    let isChecking = false;
    this.#scope.own(
      clock.every(checkResolversMs, () => {
        if (!isChecking) {
          isChecking = true;
          void this.#serially(() => this.#network.checkResolvers())
            .catch((error: unknown) => log.warn('the resolvers could not be followed', { error }))
            .finally(() => {
              isChecking = false;
            });
        }
      }),
    );
    log.info('daemon is ready', { version: clientVersion, uid });
  }

  /** Ends in order: what was made is removed. */
  async stop(): Promise<void> {
    await this.#serially(() => this.#network.clear());
    for (const { channel } of this.#windows.values()) {
      channel?.close();
    }
    await this.#scope.dispose();
    await this.#deps.platform.cleanUp(this.#options.uid);
  }

  /** Whatever was true before may not be: routes, resolvers, names, and whoever the windows talk to. */
  #wake(sleptMs: number): void {
    const { log } = this.#deps;
    log.info('the machine has slept', { sleptSeconds: Math.round(sleptMs / 1000) });
    this.#network.forgetNames();
    for (const { client } of this.#windows.values()) {
      client.notify(daemonMethod.woke, {});
    }
    void this.#serially(async () => {
      await this.#network.reapply();
      await this.#network.checkResolvers();
    }).catch((error: unknown) => log.warn('the network could not be applied again after sleep', { error }));
  }

  /** Asked at intervals: packets wait, and have waited since the last time. */
  hasStalled(): boolean {
    return this.#network.hasStalled();
  }

  #handlers() {
    return {
      attached: (client: ControlClient) => this.#attach(client),
      apply: (client: ControlClient, network: DesiredNetwork) => this.#serially(() => this.#apply(client, network)),
      listen: (client: ControlClient, ports: { port4?: number | undefined; port6?: number | undefined }) => {
        const window = this.#windows.get(client.token);
        if (!window || !this.#network.listen(window, ports)) {
          throw notAttached();
        }
      },
      status: () => this.#status(),
      detached: (client: ControlClient) => this.#serially(() => this.#detach(client)),
      quit: async () => {
        if (this.#windows.size > 1) {
          throw inUse();
        }
        this.#deps.clock.after(quitDelayMs, () => this.#ended.resolve());
      },
    };
  }

  /** Changes of the network happen one after the other. */
  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#applying.then(work, work);
    this.#applying = result.catch(() => undefined);
    return result;
  }

  #attach(client: ControlClient): void {
    if (!this.#windows.has(client.token)) {
      const window: Window = {
        client,
        channel: undefined,
        name: client.name,
        send: (frame) => window.channel?.send(frame) ?? false,
        lookup: (name, qtype, signal) => this.#lookup(window, name, qtype, signal),
        changed: (applied) => client.notify(daemonMethod.applied, toMessage(applied)),
      };
      this.#windows.set(client.token, window);
    }
  }

  async #apply(client: ControlClient, desired: DesiredNetwork): Promise<AppliedNetwork> {
    const window = this.#windows.get(client.token);
    if (!window) {
      throw notAttached();
    }
    return toMessage(await this.#network.apply(window, desired));
  }

  async #detach(client: ControlClient): Promise<void> {
    const window = this.#windows.get(client.token);
    if (window) {
      this.#windows.delete(client.token);
      window.channel?.close();
      this.#idleSinceMs = this.#deps.clock.nowMs();
      for (const [id, { window: token, resolve }] of this.#lookups) {
        if (token === client.token) {
          this.#lookups.delete(id);
          resolve({ rcode: servfail, records: new Uint8Array(0) });
        }
      }
      await this.#network.remove(window);
    }
  }

  #claim(token: string): DialClient | undefined {
    const window = this.#windows.get(token);
    if (!window || window.channel) {
      return undefined;
    }
    return {
      connected: (channel) => {
        window.channel = channel;
      },
      received: (frame) => this.#receive(window, frame),
      flushed: () => this.#network.flush(),
      closed: () => {
        window.channel = undefined;
      },
    };
  }

  #receive(window: Window, frame: DialFrame): void {
    if (frame.type !== 'lookup-answer') {
      this.#network.receive(window, frame);
      return;
    }
    const asked = this.#lookups.get(frame.id);
    // An answer counts only from the window that was asked.
    if (asked?.window === window.client.token) {
      this.#lookups.delete(frame.id);
      asked.resolve({ rcode: frame.rcode, records: Uint8Array.from(frame.records) });
    }
  }

  #lookup(window: Window, name: string, qtype: number, signal: AbortSignal): Promise<LookupResult> {
    return new Promise((resolve) => {
      const id = this.#nextLookup;
      this.#nextLookup = id >= 0x7fffffff ? 1 : id + 1;
      this.#lookups.set(id, { window: window.client.token, resolve });
      signal.addEventListener('abort', () => this.#lookups.delete(id), { once: true });
      if (!window.send({ type: 'lookup', id, qtype, name })) {
        this.#lookups.delete(id);
        resolve({ rcode: servfail, records: new Uint8Array(0) });
      }
    });
  }

  #status(): DaemonStatus {
    return {
      version: clientVersion,
      pid: process.pid,
      uptimeSeconds: (this.#deps.clock.nowMs() - this.#startedMs) / 1000,
      rssBytes: process.memoryUsage().rss,
      clients: this.#windows.size,
      service: this.#options.isService ?? false,
      ...this.#network.status,
    };
  }
}

function toMessage({ device, subnets, dnsAddress, address4, address6, translated }: Applied): AppliedNetwork {
  return {
    device,
    subnets: subnets.map(formatSubnet),
    dnsAddress,
    ...(address4 ? { address4: formatIp(address4) } : {}),
    ...(address6 ? { address6: formatIp(address6) } : {}),
    translated: [...translated],
  };
}
