import type { Event, LogLevel, PlainError } from '../base/index.ts';
import type { DaemonProbe } from '../protocol/index.ts';

/** Where a running daemon is reached. The connector never starts one. */
export interface DaemonSockets {
  readonly control: string;
  readonly dial: string;
}

export interface ClusterChoice {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
}

export interface ConnectRequest extends ClusterChoice {
  readonly namespace?: string | undefined;
  readonly managerNamespace?: string | undefined;
  readonly daemon?: DaemonSockets | undefined;
  /** Proxies and forwards on loopback: the way in where there is no daemon. */
  readonly proxy?: ProxyRequest | undefined;
  readonly network?: NetworkChoice | undefined;
  /** `namespace/name` of the service account as which we come, where the kubeconfig has no token. */
  readonly serviceAccount?: string | undefined;
}

/** What a person wishes of the network beside what the cluster says. Subnets are `10.20.0.0/16` or an address. */
export interface NetworkChoice {
  /** Routed to the cluster too. */
  readonly alsoProxy?: readonly string[] | undefined;
  /** Keep the way that they have. */
  readonly neverProxy?: readonly string[] | undefined;
  /** Overlaps inside of these are no conflicts. */
  readonly allowConflicting?: readonly string[] | undefined;
  /** The cluster's subnets that overlap with a route of this machine are reached under other addresses. */
  readonly translateConflicts?: boolean | undefined;
  /** Where those other addresses come from. */
  readonly virtualSubnet?: string | undefined;
  /** Only these namespaces; empty means all that may be seen. */
  readonly mappedNamespaces?: readonly string[] | undefined;
  readonly dns?:
    | {
        readonly includeSuffixes?: readonly string[] | undefined;
        readonly excludeSuffixes?: readonly string[] | undefined;
        /** Exact names that never go to the cluster. */
        readonly excludes?: readonly string[] | undefined;
        readonly mappings?: readonly { readonly name: string; readonly aliasFor: string }[] | undefined;
        readonly timeoutMs?: number | undefined;
      }
    | undefined;
}

export interface ProxyRequest {
  /** Each `local port:host:port`. */
  readonly forwards?: readonly string[] | undefined;
  /** Lets every user of this machine through the proxies; for programs that cannot show a password. */
  readonly withoutPassword?: boolean | undefined;
}

/** Addresses are `host:port`. */
export interface ProxyView {
  readonly socks: string;
  readonly http: string;
  readonly needsPassword: boolean;
  readonly forwards: readonly { readonly local: string; readonly target: string }[];
}

export interface InstallRequest extends ClusterChoice {
  readonly managerNamespace?: string | undefined;
  /** A whole reference. */
  readonly image?: string | undefined;
  /** The values of docs/install.md, checked where they arrive. */
  readonly options?: unknown;
  /** Installing: takes fields over that somebody else has set. */
  readonly takeOver?: boolean | undefined;
  /** Uninstalling: removes the rest also when agents remain. */
  readonly evenWithAgents?: boolean | undefined;
}

/** One of few sentences, and with what: an object, or a number of pods. */
export interface InstallStep {
  readonly step: string;
  readonly detail?: string;
}

/** What installing would change. */
export interface InstallPreview {
  /** None: all is as it should be. */
  readonly changes: readonly { readonly action: 'create' | 'change' | 'remove'; readonly what: string }[];
  /** Object by object, as unified differences of YAML. */
  readonly text: string;
}

/**
 * intercept: requests come here instead of to the application, which answers when nobody here does. wiretap: copies of
 * them come here, and answers from here go nowhere. replace: as intercept, and the container does not run meanwhile.
 * ingest: the container's environment, and no requests.
 */
export const attachModes = ['intercept', 'wiretap', 'replace', 'ingest'] as const;
export type AttachMode = (typeof attachModes)[number];
export type PortProtocol = 'TCP' | 'UDP';

export interface PortMapping {
  /** Name or number: of a port of the service; with `replace` of the container. Left out: the only one there is. */
  readonly remote?: string | undefined;
  /** Of the program on this machine. Left out: the container's number. */
  readonly local?: number | undefined;
  /** Default: TCP. */
  readonly protocol?: PortProtocol | undefined;
}

/** Which requests are meant: every header, one of the paths, one of the methods. Empty means all. */
export interface RequestFilters {
  /** A value with a character that is special in regular expressions is one. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** `:path-equal:/x`, `:path-prefix:/x`, `:path-regex:x`; without a marker equal. */
  readonly paths?: readonly string[] | undefined;
  readonly methods?: readonly string[] | undefined;
}

export interface PodPort {
  readonly port: number;
  readonly protocol: PortProtocol;
}

/** The container's volumes as files of this machine. */
export interface MountRequest {
  /** Where: an empty folder, or one that does not exist. Left out: a folder of ours. */
  readonly folder?: string | undefined;
  /** Nothing is written to the pod, whatever its policies allow. */
  readonly isReadOnly?: boolean | undefined;
}

export interface AttachRequest {
  /** Default: intercept. */
  readonly mode?: AttachMode | undefined;
  /** `name` or `kind/name`. */
  readonly workload: string;
  readonly namespace?: string | undefined;
  /** Default: the workload's, with what makes it unique. */
  readonly name?: string | undefined;
  /** Where several services lead to the workload. */
  readonly service?: string | undefined;
  /** Whose environment and mounts; with `replace` which one stands down. */
  readonly container?: string | undefined;
  /** None: the only port of the service; with `replace` all ports of the container. */
  readonly ports?: readonly PortMapping[] | undefined;
  readonly filters?: RequestFilters | undefined;
  /** Ports of 127.0.0.1 that lead to the same ports of the attached pod. */
  readonly toPod?: readonly PodPort[] | undefined;
  /** Left out: the volumes stay in the pod. */
  readonly mount?: MountRequest | undefined;
}

/**
 * copy: kept up to date, and nothing of it goes back. mount: the pod's own files. local: an empty folder, as the policy of
 * the volume has it. waiting: not here yet.
 */
export interface VolumeView {
  /** Where the container has it; here it is below the root. */
  readonly path: string;
  readonly kind: 'copy' | 'mount' | 'local' | 'waiting';
  readonly isReadOnly: boolean;
  /** Why it is not up to date. */
  readonly message?: string;
  /** What is in the pod and not here: the first of them. */
  readonly leftOut: readonly { readonly path: string; readonly reason: LeftOutReason }[];
}

export type LeftOutReason =
  | 'unreadable'
  | 'too-large'
  | 'too-many'
  | 'too-deep'
  | 'special'
  | 'bad-name'
  | 'linked-folder';

export interface FilesView {
  /** A volume `/etc/x` of the container is at `<root>/etc/x`. */
  readonly root: string;
  readonly volumes: readonly VolumeView[];
}

export interface Inspection {
  readonly contexts: readonly string[];
  readonly currentContext: string;
  readonly server: string;
  readonly namespace: string;
}

export interface AttachedPort {
  /** As it was asked for: a name or a number. */
  readonly remote: string;
  /** 0: no service. */
  readonly servicePort: number;
  /** 0: not known here, as that of a further port with a name. */
  readonly containerPort: number;
  readonly localPort: number;
  readonly protocol: PortProtocol;
}

export interface Attachment {
  readonly name: string;
  readonly mode: AttachMode;
  readonly workload: string;
  readonly kind: string;
  readonly namespace: string;
  readonly container: string;
  readonly localHost: string;
  /** None for an ingest. */
  readonly ports: readonly AttachedPort[];
  readonly filters: Required<RequestFilters>;
  readonly toPod: readonly PodPort[];
  /** The volumes that are files of this machine. */
  readonly files?: FilesView;
  readonly state: 'waiting' | 'active' | 'error';
  readonly message?: string;
}

export type ConnectionState =
  | { readonly state: 'disconnected' }
  | { readonly state: 'connecting'; readonly step: string }
  | { readonly state: 'connected'; readonly since: number }
  | { readonly state: 'reconnecting'; readonly reason: string; readonly attempt: number }
  | { readonly state: 'failed'; readonly error: PlainError };

export interface WorkloadView {
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
  readonly state: 'no-agent' | 'installed' | 'intercepted';
  /** `user@host` of those who hold it, once for each attachment. */
  readonly interceptedBy: readonly string[];
}

export interface ServiceView {
  readonly name: string;
  readonly ports: readonly {
    readonly name?: string;
    readonly port: number;
    readonly targetPort: string;
    readonly protocol: string;
  }[];
}

export interface NamespaceView {
  readonly name: string;
  readonly workloads: readonly WorkloadView[];
  readonly services: readonly ServiceView[];
}

export interface HealthView {
  readonly name: string;
  readonly severity: 'warn' | 'error';
  /** English, with `{0}`, `{1}` … for the arguments. */
  readonly sentence: string;
  readonly args?: readonly string[];
}

export interface DaemonView {
  readonly state: 'none' | 'attached' | 'gone';
  readonly version?: string;
  readonly device?: string;
  readonly subnets: readonly string[];
  /** Subnets whose addresses are translated, and the route that is in their way. */
  readonly translated?: readonly { readonly subnet: string; readonly route: string }[];
  readonly dns?: {
    readonly localAddress: string;
    readonly excludeSuffixes: readonly string[];
    readonly includeSuffixes: readonly string[];
    readonly timeoutMs: number;
  };
}

/** A wish about the network that is in force, and whose it is. */
export interface SettingView {
  /** As in `nearfield.network.alsoProxy`. */
  readonly name: string;
  readonly value: string;
  readonly from: 'settings' | 'cluster';
}

/** The API server's proxy, or a port-forward: because the proxy did not lead there, or because a token is shown. */
export type ManagerWay = 'proxy' | 'port-forward' | 'sealed';

/** Everything that can be shown, as one value. Whoever shows it never guesses at state. */
export interface ConnectorSnapshot {
  readonly connection: ConnectionState;
  readonly target?: {
    readonly context: string;
    readonly server: string;
    readonly namespace: string;
    readonly managerNamespace: string;
    readonly mappedNamespaces: readonly string[];
  };
  readonly daemon: DaemonView;
  /** While proxies stand in for the daemon. */
  readonly proxy?: ProxyView;
  /** `user@host`: what others see of us. */
  readonly client?: string;
  readonly manager?: {
    readonly name: string;
    readonly version: string;
    readonly agentImage: string;
    /** How its pod is reached. */
    readonly way?: ManagerWay;
  };
  /** What is wished of the network, by the person and by the owner of the cluster. */
  readonly settings?: readonly SettingView[];
  readonly namespaces: readonly NamespaceView[];
  readonly attachments: readonly Attachment[];
  readonly health: readonly HealthView[];
  /** What is being done while the traffic-manager is installed or removed. */
  readonly installing?: InstallStep;
}

export const emptySnapshot: ConnectorSnapshot = {
  connection: { state: 'disconnected' },
  daemon: { state: 'none', subnets: [] },
  namespaces: [],
  attachments: [],
  health: [],
};

/** The user-side brain. Errors are ours, with reasons from `errors.ts` of connector and kube. */
export interface Connector {
  readonly snapshot: ConnectorSnapshot;
  readonly onSnapshotChanged: Event<ConnectorSnapshot>;
  /** Reads the kubeconfig only; no network. */
  inspect(choice: ClusterChoice): Promise<Inspection>;
  /** Resolves when connected; `disconnect` cancels it. */
  connect(request: ConnectRequest): Promise<void>;
  /** After the launcher has restarted a daemon that was gone. */
  attachDaemon(sockets: DaemonSockets): Promise<void>;
  disconnect(): Promise<void>;
  /** Resolves when it is active. What fails or is cancelled leaves nothing. `attempt` is for `cancelAttach`. */
  attach(request: AttachRequest, attempt?: string): Promise<Attachment>;
  /** Ends an attach that is under way: it rejects with code `cancelled`. */
  cancelAttach(attempt: string): Promise<void>;
  leave(name: string): Promise<void>;
  /** The container's environment of an attachment; kept in memory only. */
  environment(name: string): Promise<Readonly<Record<string, string>>>;
  /** The variables that lead programs through the proxies, with their password; empty without proxies. */
  proxyEnvironment(): Promise<Readonly<Record<string, string>>>;
  /** What traffic-manager and traffic-agents write about, for a while; it goes back by itself. */
  setLogLevel(level: LogLevel, minutes: number): Promise<void>;
  /** Asks the API server what `install` would change; nothing is. */
  previewInstall(request: InstallRequest): Promise<InstallPreview>;
  /** Resolves when the manager is ready; steps are in the snapshot. */
  install(request: InstallRequest): Promise<void>;
  /** Ends an installation or its removal: it rejects with code `cancelled`. */
  cancelInstall(): Promise<void>;
  uninstall(request: InstallRequest): Promise<void>;
  /** Undefined when no daemon answers there. */
  probeDaemon(sockets: DaemonSockets): Promise<DaemonProbe | undefined>;
  /** Asks a daemon that nobody uses to end. */
  quitDaemon(sockets: DaemonSockets): Promise<void>;
  dispose(): Promise<void>;
}
