import * as v from 'valibot';

/**
 * What the connector and the daemon say to each other on the control socket: JSON-RPC, every message validated
 * where it arrives. The connector sends the whole desired network; the daemon converges on it.
 */
export const daemonProtocolVersion = 1;

/** By `process.platform`: the folder of the users' folders. Windows has named pipes instead: the beginning of names. */
export function runtimeDirectoryOf(platform: string): string {
  switch (platform) {
    case 'darwin':
      return '/var/run/nearfield';
    case 'win32':
      return '\\\\.\\pipe\\nearfield';
    default:
      return '/run/nearfield';
  }
}
export const daemonRuntimeDirectory = runtimeDirectoryOf(process.platform);

/** The largest list of subnets, suffixes or namespaces that is accepted: far above any cluster, far below harm. */
const maxListLength = 2_000;

const dnsLabel = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/i;
const isDomain = (text: string): boolean =>
  text.length <= 253 &&
  text
    .replace(/^\./, '')
    .replace(/\.$/, '')
    .split('.')
    .every((label) => dnsLabel.test(label));

const domain = v.pipe(v.string(), v.check(isDomain, 'is not a domain name'));
const domains = v.pipe(v.array(domain), v.maxLength(maxListLength));
const cidr = v.pipe(v.string(), v.maxLength(49), v.regex(/^[0-9a-fA-F:.]+\/\d{1,3}$/, 'is not a subnet'));
const cidrs = v.pipe(v.array(cidr), v.maxLength(maxListLength));
const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));
const count = v.pipe(v.number(), v.minValue(0));

const aliasTarget = v.union([domain, v.pipe(v.string(), v.maxLength(45), v.regex(/^[0-9a-fA-F:.]+$/))]);

export const desiredDnsSchema = v.strictObject({
  clusterDomain: domain,
  /** The connected namespace: single-label names are looked up in it. */
  namespace: domain,
  /** Mapped namespaces and `svc`: names that end in one of them belong to the cluster. */
  routedDomains: domains,
  includeSuffixes: domains,
  excludeSuffixes: domains,
  /** Exact names that never go to the cluster. */
  excludes: domains,
  /** Exact names that are answered as another name, or with an address. */
  mappings: v.pipe(v.array(v.strictObject({ name: domain, aliasFor: aliasTarget })), v.maxLength(maxListLength)),
  timeoutMs: v.pipe(v.number(), v.integer(), v.minValue(100), v.maxValue(30_000)),
});
export type DesiredDns = v.InferOutput<typeof desiredDnsSchema>;

export const desiredNetworkSchema = v.strictObject({
  /** Says which windows mean the same cluster: those share subnets, others must not overlap. Opaque. */
  cluster: v.pipe(v.string(), v.minLength(1), v.maxLength(300)),
  subnets: cidrs,
  /** Destinations inside `subnets` that keep their present route, e.g. the API server's address. */
  neverProxy: cidrs,
  /** Subnets that are routed although the machine has a route that overlaps. */
  allowConflicting: cidrs,
  /**
   * Routed instead of a subnet that another program's route overlaps with; the connector then translates addresses.
   * Empty: such a subnet is refused.
   */
  virtualSubnets: cidrs,
  dns: desiredDnsSchema,
});
export type DesiredNetwork = v.InferOutput<typeof desiredNetworkSchema>;

export const attachParamsSchema = v.strictObject({
  name: v.pipe(v.string(), v.minLength(1), v.maxLength(200)),
  pid: v.pipe(v.number(), v.integer(), v.minValue(1)),
});
export const attachResultSchema = v.object({
  /** Opens the dial channel: the first frame there carries it. */
  token: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  daemonVersion: v.string(),
  protocolVersion: v.number(),
  uid: v.number(),
});
export type AttachResult = v.InferOutput<typeof attachResultSchema>;

export const applyParamsSchema = v.strictObject({ network: desiredNetworkSchema });
export const appliedNetworkSchema = v.object({
  device: v.string(),
  address4: v.optional(v.string()),
  address6: v.optional(v.string()),
  subnets: v.array(v.string()),
  dnsAddress: v.string(),
  /** Subnets that virtual ones stand in for, and the route that was in the way. */
  translated: v.array(v.object({ subnet: v.string(), route: v.string() })),
});
export type AppliedNetwork = v.InferOutput<typeof appliedNetworkSchema>;

/** The ports of the connector's listeners on the device's own addresses; SYNs are admitted only after this. */
export const listenParamsSchema = v.strictObject({ port4: v.optional(port), port6: v.optional(port) });
export type ListenParams = v.InferOutput<typeof listenParamsSchema>;

export const emptyParamsSchema = v.strictObject({});

export const daemonStatusSchema = v.object({
  version: v.string(),
  pid: v.number(),
  uptimeSeconds: count,
  device: v.optional(v.string()),
  subnets: v.array(v.string()),
  dns: v.optional(
    v.object({
      localAddress: v.string(),
      excludeSuffixes: v.array(v.string()),
      includeSuffixes: v.array(v.string()),
      timeoutMs: v.number(),
      /** Questions since the network came up, by what became of them. */
      stats: v.optional(
        v.object({ asked: count, fromCache: count, cluster: count, upstream: count, failed: count, timedOut: count }),
      ),
    }),
  ),
  flows: v.object({ tcp: count, udp: count, halfOpen: count, short: count }),
  /** Packets dropped, by reason. */
  drops: v.record(v.string(), count),
  rssBytes: count,
  /** The windows that share this daemon. */
  clients: count,
  /** The system runs it by itself; older daemons do not say. */
  service: v.optional(v.boolean()),
  /** How the machine's programs are led to the name server. */
  resolver: v.optional(v.string()),
  /** What is wrong now and a person can repair. */
  conditions: v.optional(v.array(v.lazy(() => healthConditionSchema))),
});
export type DaemonStatus = v.InferOutput<typeof daemonStatusSchema>;

/** What every version's status has: enough to tell versions apart. */
export const daemonProbeSchema = v.object({ version: v.string(), clients: count, service: v.optional(v.boolean()) });
export type DaemonProbe = v.InferOutput<typeof daemonProbeSchema>;

export const healthConditionSchema = v.object({
  name: v.string(),
  severity: v.picklist(['warn', 'error']),
  /** English, with `{0}`, `{1}` … for the arguments. */
  sentence: v.string(),
  args: v.array(v.string()),
});
export type HealthCondition = v.InferOutput<typeof healthConditionSchema>;
export const healthParamsSchema = v.object({ conditions: v.array(healthConditionSchema) });

/** Request names, so that both ends spell them alike. */
export const daemonMethod = {
  attach: 'attach',
  apply: 'apply',
  listen: 'listen',
  status: 'status',
  detach: 'detach',
  quit: 'quit',
  /** Notifications of the daemon: what is wrong now, and a network that had to be applied differently. */
  health: 'health',
  applied: 'applied',
  /** The machine has slept: whatever was open may be dead. No parameters. */
  woke: 'woke',
} as const;

/** Where the daemon of a user is reached. Both sockets are 0600 in a directory 0700, all owned by the user. Pipes have
 * no directory: what is called so is only a name. */
export interface DaemonSocketPaths {
  readonly directory: string;
  readonly control: string;
  readonly dial: string;
}

export function daemonSocketPaths(uid: number, runtimeDirectory = daemonRuntimeDirectory): DaemonSocketPaths {
  if (isPipe(runtimeDirectory)) {
    const name = `${runtimeDirectory}-${uid}`;
    return { directory: name, control: `${name}-daemon`, dial: `${name}-dial` };
  }
  const directory = `${runtimeDirectory}/${uid}`;
  return { directory, control: `${directory}/daemon.sock`, dial: `${directory}/dial.sock` };
}

/** A named pipe of Windows: there is no file to make, to own or to remove. */
export function isPipe(path: string): boolean {
  return path.startsWith('\\\\.\\pipe\\');
}

/** Where root keeps the daemon. Every folder above is root's on every distribution, and programs may run from it. */
export const daemonInstallFolder = '/opt/nearfield';

/** The path of the daemon with this SHA-256 (64 hex digits). */
export function daemonInstallPath(digest: string, folder = daemonInstallFolder): string {
  return `${folder}/${digest.slice(0, 16)}/nearfield-daemon`;
}

/** The file that is there while the user's daemon is a service. Everybody may look; undefined where there are none. */
export function daemonServiceFile(uid: number, platform: string): string | undefined {
  switch (platform) {
    case 'linux':
      return `/etc/systemd/system/multi-user.target.wants/nearfield-daemon@${uid}.service`;
    case 'darwin':
      return `/Library/LaunchDaemons/dev.nearfield.daemon.${uid}.plist`;
    default:
      return undefined;
  }
}
