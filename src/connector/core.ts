import { randomUUID } from 'node:crypto';
import { type Clock, Emitter, type Logger, type LogLevel, Scope, toError, toPlainError } from '../base/index.ts';
import { loadKube } from '../kube/index.ts';
import type { DaemonProbe } from '../protocol/index.ts';
import {
  type Attachment,
  type AttachRequest,
  type ClusterChoice,
  type ConnectionState,
  type Connector,
  type ConnectorSnapshot,
  type ConnectRequest,
  type DaemonSockets,
  type DaemonView,
  emptySnapshot,
  type Inspection,
  type InstallPreview,
  type InstallRequest,
  type NetworkChoice,
} from './contract.ts';
import { probeDaemon, quitDaemon } from './daemon-link/link.ts';
import { alreadyConnected, notConnected } from './errors.ts';
import { healthOf } from './health.ts';
import { Installer } from './install/installer.ts';
import { defaultManagerNamespace } from './install/options.ts';
import { Attachments } from './intercept/attachments.ts';
import { Mounts } from './mounts/mounts.ts';
import { addressesOf } from './network/api-server.ts';
import { NetworkAttachment } from './network/attachment.ts';
import { checkChoice } from './network/choice.ts';
import { desiredNetwork } from './network/desired.ts';
import { explainChoices, mergeChoices, toChoice } from './network/wishes.ts';
import { ClusterDialer } from './outbound/dial.ts';
import { openLocalProxy } from './proxy/proxy.ts';
import { Catalog } from './session/catalog.ts';
import type { Connection } from './session/connection.ts';
import { setLogLevel } from './session/log-level.ts';
import { lookupName } from './session/lookup.ts';
import { ManagerSession } from './session/session.ts';
import { viewOfManager } from './session/view.ts';

export interface CoreDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** A private folder of the user's for volumes; without one they stay in the pods. */
  readonly volumesFolder?: string | undefined;
}

const publishDelayMs = 25;
const noDaemon: DaemonView = { state: 'none', subnets: [] };

/** The connector in this thread. `createConnector` puts it into a worker; the headless entry uses it as it is. */
export class ConnectorCore implements Connector {
  readonly #deps: CoreDeps;
  readonly #changed = new Emitter<ConnectorSnapshot>();
  readonly #installId = randomUUID();
  readonly onSnapshotChanged = this.#changed.event;
  snapshot: ConnectorSnapshot = emptySnapshot;
  readonly #installer: Installer;
  #connection: Connection | undefined;
  #attempt: AbortController | undefined;
  #state: ConnectionState = { state: 'disconnected' };
  #publishing = false;

  constructor(deps: CoreDeps) {
    this.#deps = deps;
    this.#installer = new Installer({ ...deps, onStep: () => this.#publish() });
  }

  async inspect(choice: ClusterChoice): Promise<Inspection> {
    const { target, contexts } = loadKube(choice);
    return { contexts, currentContext: target.context, server: target.server, namespace: target.namespace };
  }

  async connect(request: ConnectRequest): Promise<void> {
    if (this.#connection || this.#attempt) {
      throw alreadyConnected();
    }
    const attempt = new AbortController();
    this.#attempt = attempt;
    const scope = new Scope((error) => this.#deps.log.warn('clean-up failed', { error }));
    try {
      await this.#connect(request, scope, attempt.signal);
      this.#set({ state: 'connected', since: this.#deps.clock.wallMs() });
      this.#publishNow();
    } catch (thrown) {
      const error = toError(thrown);
      this.#connection = undefined;
      await scope.dispose();
      this.#set(attempt.signal.aborted ? { state: 'disconnected' } : { state: 'failed', error: toPlainError(error) });
      this.#publishNow();
      throw error;
    } finally {
      this.#attempt = undefined;
    }
  }

  async #connect(request: ConnectRequest, scope: Scope, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    this.#set({ state: 'connecting', step: 'reading the kubeconfig' });
    // What is wrong with it is said before anything begins.
    checkChoice(request.network);
    const kube = loadKube(request);
    const namespace = request.namespace || kube.target.namespace;
    const managerNamespace = request.managerNamespace || defaultManagerNamespace;
    this.#set({ state: 'connecting', step: `asking ${kube.target.server}` });
    await kube.version();
    const session = new ManagerSession({
      kube,
      namespace,
      managerNamespace,
      installId: this.#installId,
      clock,
      log: log.child('session'),
      serviceAccount: request.serviceAccount,
      isAllowed: (...target) => this.#connection?.attachments.isAllowed(...target) ?? false,
    });
    scope.defer(() => session.close());
    signal.addEventListener('abort', () => void session.close(), { once: true });
    scope.own(
      session.onStateChanged((state) => {
        if (state.kind === 'connecting') {
          this.#set({ state: 'connecting', step: state.step });
        } else if (state.kind === 'reconnecting') {
          this.#set({ state: 'reconnecting', reason: state.reason, attempt: state.attempt });
        } else if (state.kind === 'connected' && this.#state.state === 'reconnecting') {
          this.#set({ state: 'connected', since: clock.wallMs() });
        }
      }),
    );
    const chosen = session.open().then(() => this.#choose(request.network, session));
    const mapped = chosen.then(({ choice }) => choice.mappedNamespaces);
    const [catalog, apiServer, { choice, settings }] = await Promise.all([
      Catalog.open(kube, namespace, mapped, log.child('catalog')),
      addressesOf(kube.target.server),
      chosen,
    ]);
    scope.own(catalog);
    const dialer = scope.own(new ClusterDialer({ clock, tunnels: () => session.tunnels }));
    const base = this.#deps.volumesFolder;
    const direct = scope.own(new ClusterDialer({ clock, tunnels: (podIp) => session.tunnelsTo(podIp) }));
    const mounts =
      base === undefined
        ? undefined
        : scope.own(new Mounts({ base, clock, log: log.child('files'), dialers: [direct, dialer] }));
    await mounts?.cleanUp();
    const attachments = scope.own(
      new Attachments({ session, dialer, mounts, namespace, clock, log: log.child('attachments') }),
    );
    const connection: Connection = {
      scope,
      kube,
      session,
      catalog,
      attachments,
      namespace,
      managerNamespace,
      apiServer,
      choice,
      settings,
      daemon: undefined,
      proxy: undefined,
    };
    this.#connection = connection;
    scope.own(catalog.onChanged(() => this.#catalogChanged(connection)));
    scope.own(attachments.onChanged(() => this.#publish()));
    scope.own(
      session.onWorkloadsChanged(({ namespace: name, events, isFirst }) => {
        if (isFirst) {
          catalog.resetWorkloads(name);
        }
        catalog.applyWorkloads(name, events);
      }),
    );
    session.watchNamespaces(catalog.names);
    scope.defer(() => this.#detach(connection));
    if (request.daemon) {
      this.#set({ state: 'connecting', step: 'joining the cluster’s network' });
      await this.#attach(connection, request.daemon);
    }
    if (request.proxy) {
      this.#set({ state: 'connecting', step: 'opening the proxies' });
      const deps = {
        clock,
        log: log.child('proxy'),
        tunnels: () => session.tunnels,
        lookup: (name: string, qtype: number) => lookupName(session, name, qtype),
        network: () => session.clusterInfo && this.#desired(connection),
        apiServer: { url: kube.target.server, addresses: apiServer },
      };
      connection.proxy = scope.own(await openLocalProxy(deps, request.proxy));
    }
    scope.own(session.onClusterInfoChanged(() => void this.#applyNetwork(connection)));
  }

  /** The person's wishes over the owner's; the owner's alone are dropped when they cannot be. */
  #choose(person: NetworkChoice = {}, { clientConfig }: ManagerSession) {
    const owner = toChoice(clientConfig);
    try {
      return { choice: checkChoice(mergeChoices(person, owner)), settings: explainChoices(person, owner) };
    } catch (error) {
      this.#deps.log.warn('what the owner of the cluster wishes of the network cannot be', { error });
      return { choice: checkChoice(person), settings: explainChoices(person, {}) };
    }
  }

  async attachDaemon(sockets: DaemonSockets): Promise<void> {
    const connection = this.#required();
    await this.#detach(connection);
    await this.#attach(connection, sockets);
    this.#publish();
  }

  async #attach(connection: Connection, sockets: DaemonSockets): Promise<void> {
    const { clock, log } = this.#deps;
    const { session } = connection;
    const daemon = await NetworkAttachment.open(sockets, {
      clock,
      log,
      tunnels: () => session.tunnels,
      lookup: (name, qtype) => lookupName(session, name, qtype),
      desired: () => this.#desired(connection),
      woke: () => {
        log.info('the machine has slept: looking whether the cluster still answers');
        session.check();
      },
    });
    connection.daemon = daemon;
    daemon.onChanged(() => {
      if (daemon.view.state === 'gone') {
        log.warn('the daemon has ended');
      }
      this.#publish();
    });
  }

  async #detach(connection: Connection): Promise<void> {
    const { daemon } = connection;
    connection.daemon = undefined;
    await daemon?.dispose();
  }

  #desired({ session, kube, namespace, catalog, apiServer, choice }: Connection) {
    const info = session.clusterInfo;
    if (!info) {
      throw notConnected();
    }
    return desiredNetwork({
      cluster: kube.target.server,
      info,
      namespace,
      mappedNamespaces: catalog.names,
      apiServer,
      choice,
    });
  }

  async #applyNetwork(connection: Connection): Promise<void> {
    if (connection.daemon?.view.state === 'attached') {
      await connection.daemon
        .apply()
        .catch((error: unknown) => this.#deps.log.warn('the network could not be changed', { error }));
    }
  }

  #catalogChanged(connection: Connection): void {
    connection.session.watchNamespaces(connection.catalog.names);
    this.#publish();
  }

  async disconnect(): Promise<void> {
    this.#attempt?.abort();
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.scope.dispose();
    this.#set({ state: 'disconnected' });
    this.#publishNow();
  }

  async attach(request: AttachRequest, attempt?: string): Promise<Attachment> {
    const made = await this.#required().attachments.attach(request, attempt);
    this.#publishNow();
    return made;
  }

  async cancelAttach(attempt: string): Promise<void> {
    this.#connection?.attachments.cancel(attempt);
  }

  async leave(name: string): Promise<void> {
    await this.#required().attachments.leave(name);
    this.#publishNow();
  }

  async environment(name: string): Promise<Readonly<Record<string, string>>> {
    return this.#required().attachments.environment(name);
  }

  async proxyEnvironment(): Promise<Readonly<Record<string, string>>> {
    return this.#connection?.proxy?.environment ?? {};
  }

  async setLogLevel(level: LogLevel, minutes: number): Promise<void> {
    await setLogLevel(this.#required().session, level, minutes);
  }

  previewInstall(request: InstallRequest): Promise<InstallPreview> {
    return this.#installer.preview(request);
  }

  install(request: InstallRequest): Promise<void> {
    return this.#installer.install(request);
  }

  uninstall(request: InstallRequest): Promise<void> {
    return this.#installer.uninstall(request);
  }

  async cancelInstall(): Promise<void> {
    this.#installer.cancel();
  }

  quitDaemon(sockets: DaemonSockets): Promise<void> {
    return quitDaemon(sockets, this.#deps.clock);
  }

  probeDaemon(sockets: DaemonSockets): Promise<DaemonProbe | undefined> {
    return probeDaemon(sockets, this.#deps.clock);
  }

  async dispose(): Promise<void> {
    this.#installer.cancel();
    await this.disconnect();
    this.#changed.dispose();
  }

  #required(): Connection {
    if (!this.#connection) {
      throw notConnected();
    }
    return this.#connection;
  }

  #set(state: ConnectionState): void {
    this.#state = state;
    this.#publish();
  }

  /** Joins what happens within a few milliseconds into one snapshot. */
  #publish(): void {
    if (this.#publishing) {
      return;
    }
    this.#publishing = true;
    this.#deps.clock.after(publishDelayMs, () => {
      if (this.#publishing) {
        this.#publishNow();
      }
    });
  }

  /** Before a call is answered: whoever made it must find its effect in the snapshot. */
  #publishNow(): void {
    this.#publishing = false;
    this.snapshot = this.#compute();
    this.#changed.fire(this.snapshot);
  }

  #compute(): ConnectorSnapshot {
    const connection = this.#connection;
    const base = {
      connection: this.#state,
      daemon: this.#connection?.daemon?.view ?? noDaemon,
      attachments: this.#connection?.attachments.views ?? [],
      health: healthOf(this.#connection?.daemon),
      ...(this.#installer.step === undefined ? {} : { installing: this.#installer.step }),
    };
    if (!connection) {
      return { ...base, namespaces: [] };
    }
    const { kube, session, catalog, namespace, managerNamespace, proxy } = connection;
    const manager = viewOfManager(session);
    return {
      ...base,
      ...(proxy ? { proxy: proxy.view } : {}),
      client: session.clientName,
      namespaces: catalog.view(),
      target: {
        context: kube.target.context,
        server: kube.target.server,
        namespace,
        managerNamespace,
        mappedNamespaces: catalog.names,
      },
      ...(connection.settings.length > 0 ? { settings: connection.settings } : {}),
      ...(manager ? { manager } : {}),
    };
  }
}
