import * as v from 'valibot';
import {
  clientConfigSchema,
  clientVersion,
  interceptPolicySchema,
  isEmptySelector,
  labelSelectorSchema,
} from '../../protocol/index.ts';
import { badInstallOptions } from '../errors.ts';

export const defaultManagerNamespace = 'ambassador';
export const injectPolicies = ['OnDemand', 'WhenEnabled', 'Never'] as const;
export const logLevels = ['error', 'warn', 'info', 'debug', 'trace'] as const;

/** A DNS label: names of namespaces and of secrets that we refer to. */
const label = v.pipe(v.string(), v.regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'is not a name of Kubernetes'));
const quantities = v.record(v.string(), v.union([v.string(), v.number()]));
const resources = v.strictObject({ requests: v.optional(quantities), limits: v.optional(quantities) });
/** Left out and empty say the same: the text of a chart's value may be empty. */
const text = v.optional(v.string(), '');
const logLevel = v.picklist(logLevels);

/**
 * What may be chosen about an installation: the values of the Helm chart, the setting `nearfield.installOptions` and the
 * file of `nearfield install --options` have this shape. Names are those of the public chart where it has one.
 */
export const installOptionsSchema = v.strictObject({
  image: v.optional(
    v.strictObject({
      registry: v.optional(v.string(), 'docker.io/nearfield'),
      name: v.optional(v.string(), 'traffic'),
      /** Empty: the version of this program. */
      tag: text,
      pullPolicy: v.optional(v.picklist(['Always', 'IfNotPresent', 'Never']), 'IfNotPresent'),
      pullSecrets: v.optional(v.array(v.strictObject({ name: label })), []),
    }),
    {},
  ),
  /** Where the manager works. Empty: everywhere, with cluster-wide roles. */
  namespaces: v.optional(v.array(label), []),
  /** The same by labels of namespaces, with cluster-wide roles. Instead of `namespaces`. */
  namespaceSelector: v.optional(labelSelectorSchema, {}),
  /** 0 stops it without losing the installation. More than one does not work: each would know half of the sessions. */
  replicas: v.optional(v.picklist([0, 1]), 1),
  logLevel: v.optional(logLevel, 'info'),
  resources: v.optional(resources, {}),
  nodeSelector: v.optional(v.record(v.string(), v.string()), {}),
  tolerations: v.optional(
    v.array(
      v.strictObject({
        key: v.optional(v.string()),
        operator: v.optional(v.picklist(['Exists', 'Equal'])),
        value: v.optional(v.string()),
        effect: v.optional(v.picklist(['NoSchedule', 'PreferNoSchedule', 'NoExecute'])),
        tolerationSeconds: v.optional(v.number()),
      }),
    ),
    [],
  ),
  agent: v.optional(
    v.strictObject({
      /** A whole reference; empty: the manager's own. */
      image: text,
      /** Empty: the manager's own. */
      logLevel: v.optional(v.union([v.literal(''), logLevel]), ''),
      resources: v.optional(resources, {}),
    }),
    {},
  ),
  agentInjector: v.optional(v.strictObject({ injectPolicy: v.optional(v.picklist(injectPolicies), 'OnDemand') }), {}),
  /** Refuses callers that do not prove who they are, and asks the API server what they may do. */
  requireToken: v.optional(v.boolean(), false),
  /** What the owner decides about attachments. Changes need no restart. */
  intercept: v.optional(interceptPolicySchema, {}),
  /** What the owner wishes of every client. Changes need no restart. */
  client: v.optional(clientConfigSchema, {}),
  /** Where `/metrics` is; 0: nowhere. */
  prometheus: v.optional(
    v.strictObject({
      port: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(0),
          v.maxValue(65_535),
          v.check((port) => ![8081, 8082, 8443].includes(port), 'is one of the manager’s other ports'),
        ),
        9090,
      ),
    }),
    {},
  ),
  networkPolicy: v.optional(v.boolean(), false),
  /** The role of developers, and who gets it. */
  clientRbac: v.optional(
    v.strictObject({
      create: v.optional(v.boolean(), false),
      subjects: v.optional(
        v.array(
          v.strictObject({
            kind: v.picklist(['User', 'Group', 'ServiceAccount']),
            name: v.string(),
            namespace: v.optional(v.string()),
          }),
        ),
        [],
      ),
    }),
    {},
  ),
});
export type InstallValues = v.InferOutput<typeof installOptionsSchema>;

export interface InstallOptions extends InstallValues {
  readonly namespace: string;
  /** The whole reference of the manager's image. */
  readonly imageReference: string;
}

const namesCallers = ({ intercept }: InstallValues): boolean =>
  intercept.allowed.some(({ users, groups }) => users !== undefined || groups !== undefined);

/** What a person gave, completed. Errors: `connector.bad-install-options`, with everything that is wrong. */
export function readInstallOptions(given: {
  readonly namespace?: string | undefined;
  /** A whole reference: stronger than the three parts of `options`. */
  readonly image?: string | undefined;
  readonly options?: unknown;
}): InstallOptions {
  const parsed = v.safeParse(installOptionsSchema, given.options ?? {});
  const namespace = v.safeParse(label, given.namespace || defaultManagerNamespace);
  const issues = [
    ...(parsed.issues ?? []).map((issue) => `${v.getDotPath(issue) ?? 'the options'}: ${issue.message}`),
    ...(parsed.success && namesCallers(parsed.output) && !parsed.output.requireToken
      ? ['intercept.allowed: users and groups are known only with requireToken']
      : []),
    ...(parsed.success && parsed.output.namespaces.length > 0 && !isEmptySelector(parsed.output.namespaceSelector)
      ? ['namespaceSelector: namespaces are listed already, and one of the two is enough']
      : []),
    ...(namespace.issues ?? []).map(({ message }) => `namespace: ${message}`),
  ];
  if (!parsed.success || !namespace.success || issues.length > 0) {
    throw badInstallOptions(issues);
  }
  const { image } = parsed.output;
  return {
    ...parsed.output,
    namespace: namespace.output,
    imageReference: given.image || `${image.registry}/${image.name}:${image.tag || clientVersion}`,
  };
}
