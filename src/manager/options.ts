import * as v from 'valibot';
import { isEmptySelector, labelSelectorSchema } from '../protocol/index.ts';
import { defaultPolicies, parsePolicies } from './injector/mounts.ts';

const port = (fallback: number) =>
  v.optional(
    v.pipe(v.string(), v.regex(/^\d+$/, 'is not a port'), v.transform(Number), v.maxValue(65_535)),
    String(fallback),
  );

/** A value of the chart that is no text travels as JSON. */
const json = <T extends v.GenericSchema>(schema: T) => v.optional(v.pipe(v.string(), v.parseJson(), schema));
const quantities = v.record(v.string(), v.pipe(v.union([v.string(), v.number()]), v.transform(String)));

export const injectPolicies = ['OnDemand', 'WhenEnabled', 'Never'] as const;
export type InjectPolicy = (typeof injectPolicies)[number];

/** The environment of the traffic-manager's container: names as the chart's users know them. */
export const managerOptionsSchema = v.object({
  LOG_LEVEL: v.optional(v.string(), 'info'),
  SERVER_HOST: v.optional(v.string(), ''),
  SERVER_PORT: port(8081),
  MUTATOR_WEBHOOK_PORT: port(8443),
  MANAGER_NAMESPACE: v.pipe(v.string('is not set'), v.minLength(1)),
  POD_IP: v.pipe(v.string('is not set'), v.minLength(1)),
  AGENT_IMAGE: v.pipe(v.string('is not set'), v.minLength(1)),
  AGENT_IMAGE_PULL_POLICY: v.optional(v.string(), 'IfNotPresent'),
  /** Secrets of the pod's namespace: with names as a pod has them. */
  AGENT_IMAGE_PULL_SECRETS: json(v.array(v.object({ name: v.string() }))),
  AGENT_RESOURCES: json(v.object({ requests: v.optional(quantities), limits: v.optional(quantities) })),
  /** When pods get an agent: when somebody attaches, only where the annotation asks for it, or never. */
  AGENT_INJECT_POLICY: v.optional(v.picklist(injectPolicies), 'OnDemand'),
  /** Where the manager works, separated by spaces. Empty: everywhere. */
  MANAGED_NAMESPACES: v.pipe(
    v.optional(v.string(), ''),
    v.transform((text) => text.split(/\s+/).filter(Boolean)),
  ),
  /** Which namespaces it works in, by their labels. Undefined: all of them. */
  NAMESPACE_SELECTOR: v.pipe(
    json(labelSelectorSchema),
    v.transform((selector) => (selector && !isEmptySelector(selector) ? selector : undefined)),
  ),
  AGENT_LOG_LEVEL: v.optional(v.string()),
  /** Whoever calls has to say who they are. */
  REQUIRE_TOKEN: v.pipe(
    v.optional(v.picklist(['true', 'false'], 'is neither true nor false'), 'false'),
    v.transform((text) => text === 'true'),
  ),
  /** `/healthz` and `/readyz`. */
  HEALTH_PORT: port(8082),
  /** `/metrics`; 0: nowhere. */
  PROMETHEUS_PORT: port(0),
  /** JSON: what becomes of the applications' volumes, by name or path. */
  AGENT_MOUNT_POLICIES: v.pipe(
    v.optional(v.string(), ''),
    v.transform((text) => (text ? parsePolicies(text) : defaultPolicies)),
    v.check((rules) => rules !== undefined, 'is no JSON object of names or paths and policies'),
  ),
});
export type ManagerOptions = v.InferOutput<typeof managerOptionsSchema>;
