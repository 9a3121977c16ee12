import * as v from 'valibot';

/**
 * The configuration of a traffic-agent: one JSON value, written by the injector into the pod's annotation
 * `telepresence.io/agent-config`, read by the agent from AGENT_CONFIG. Keys are those of the public wire, so that a
 * stock agent or manager reads it too; keys that are not ours are passed over.
 */
const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));

export const sidecarPortSchema = v.object({
  containerPortName: v.optional(v.string()),
  serviceName: v.optional(v.string()),
  serviceUID: v.optional(v.string()),
  servicePortName: v.optional(v.string()),
  servicePort: v.optional(port),
  targetPortNumeric: v.optional(v.boolean()),
  protocol: v.optional(v.picklist(['TCP', 'UDP'])),
  /** Where the application listens. */
  containerPort: port,
  /** Where the agent listens in its stead. */
  agentPort: port,
});
export type SidecarPort = v.InferOutput<typeof sidecarPortSchema>;

export const sidecarContainerSchema = v.object({
  name: v.string(),
  intercepts: v.optional(v.array(sidecarPortSchema), []),
  /** Marks this container's variables in the agent's own environment: `A_`, `B_`, … */
  envPrefix: v.optional(v.string(), ''),
  mountPoint: v.optional(v.string()),
  /** What became of the container: 0 it is there, 1 it was taken away and the agent has its ports, 2 nothing uses it. */
  replace: v.optional(v.picklist([0, 1, 2])),
  /** The container's volumes by the paths where it has them, and their `mountPolicies`. */
  mounts: v.optional(v.record(v.string(), v.number())),
});
export type SidecarContainer = v.InferOutput<typeof sidecarContainerSchema>;

export const sidecarConfigSchema = v.object({
  agentName: v.string(),
  namespace: v.string(),
  workloadName: v.string(),
  workloadKind: v.string(),
  managerHost: v.string(),
  managerPort: v.optional(port, 8081),
  logLevel: v.optional(v.string()),
  containers: v.array(sidecarContainerSchema),
});
export type SidecarConfig = v.InferOutput<typeof sidecarConfigSchema>;

export const replacedContainer = 1;
/** The agent's first port; the following ones are counted up. */
export const firstAgentPort = 9900;
/** Answers `/ready`: a probe by HTTP is lighter than starting a program every second. */
export const agentHealthPort = 9899;
/** In front of every copied variable of an application container. */
export const appEnvironmentPrefix = '_TEL_APP_';

/** What becomes of a volume of the application: numbers of the wire. */
export const mountPolicies = { remote: 0, remoteReadOnly: 1, local: 2, ignore: 3 } as const;
export type MountPolicy = (typeof mountPolicies)[keyof typeof mountPolicies];
/** Below, by container, the agent has the volumes of the application. */
export const agentMountsRoot = '/tel_app_mounts';
/** Below, by container, the agent serves them. */
export const exportsRoot = '/tel_app_exports';
