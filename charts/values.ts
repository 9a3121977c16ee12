import { stringify } from 'yaml';
import { injectPolicies, logLevels, readInstallOptions } from '../src/connector/install/options.ts';

/** What each value is, for values.yaml and its schema; the names and defaults are those of the options. */
const quantities = { type: 'object', additionalProperties: { type: ['string', 'number'] } };
const resources = {
  type: 'object',
  additionalProperties: false,
  properties: { requests: quantities, limits: quantities },
};
const name = { type: 'string', pattern: '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$' };
const list = (items: object): object => ({ type: 'array', items });
const object = (properties: object, required: readonly string[] = []): object => ({
  type: 'object',
  additionalProperties: false,
  ...(required.length > 0 ? { required } : {}),
  properties,
});
const text = { type: 'string' };

const values: Readonly<Record<string, readonly [description: string, schema: object]>> = {
  image: [
    'The image of traffic-manager and traffic-agent. An empty tag is the version of this chart.',
    object({
      registry: text,
      name: text,
      tag: text,
      pullPolicy: { enum: ['Always', 'IfNotPresent', 'Never'] },
      pullSecrets: list(object({ name }, ['name'])),
    }),
  ],
  namespaces: ['Where the manager works. Empty: everywhere, with cluster-wide roles.', list(name)],
  namespaceSelector: [
    'The same by labels of namespaces, as a selector of Kubernetes; instead of namespaces.',
    object({
      matchLabels: { type: 'object', additionalProperties: text },
      matchExpressions: list(
        object({ key: text, operator: { enum: ['In', 'NotIn', 'Exists', 'DoesNotExist'] }, values: list(text) }, [
          'key',
          'operator',
        ]),
      ),
    }),
  ],
  replicas: ['0 stops it without losing the installation; more than one does not work.', { enum: [0, 1] }],
  logLevel: ['Of the manager, and of agents unless they have their own.', { enum: logLevels }],
  resources: ['Of the manager’s container.', resources],
  nodeSelector: ['Of the manager’s pod.', { type: 'object', additionalProperties: text }],
  tolerations: [
    'Of the manager’s pod.',
    list(
      object({
        key: text,
        operator: { enum: ['Exists', 'Equal'] },
        value: text,
        effect: { enum: ['NoSchedule', 'PreferNoSchedule', 'NoExecute'] },
        tolerationSeconds: { type: 'number' },
      }),
    ),
  ],
  agent: [
    'The traffic-agent. An empty image is the manager’s own.',
    object({ image: text, logLevel: { enum: ['', ...logLevels] }, resources }),
  ],
  agentInjector: [
    'When pods get an agent: when somebody attaches, when an annotation asks for it, or never.',
    object({ injectPolicy: { enum: injectPolicies } }),
  ],
  requireToken: [
    'Refuses callers that do not prove who they are, and asks the API server what they may do.',
    { type: 'boolean' },
  ],
  intercept: [
    'What you decide about attachments: see docs/security.md. Changes need no restart.',
    object({
      allowGlobalIntercepts: { type: 'boolean' },
      allowReplace: { type: 'boolean' },
      maxDuration: { type: 'string', pattern: '^(\\d+(s|m|h|d))*$' },
      allowed: list(object({ users: list(text), groups: list(text), namespaces: list(text), workloads: list(text) })),
    }),
  ],
  client: ['What you wish of every client: see docs/install.md. Changes need no restart.', { type: 'object' }],
  prometheus: ['The port of /metrics; 0 for none.', object({ port: { type: 'integer', minimum: 0, maximum: 65_535 } })],
  networkPolicy: ['Allows connections to the manager only at its two ports.', { type: 'boolean' }],
  clientRbac: [
    'The role of developers, and who gets it.',
    object({
      create: { type: 'boolean' },
      subjects: list(
        object({ kind: { enum: ['User', 'Group', 'ServiceAccount'] }, name: text, namespace: text }, ['kind', 'name']),
      ),
    }),
  ],
};

export const optionNames: readonly string[] = Object.keys(values);

/** The default values with a comment each. */
export function chartValues(): string {
  const defaults = readInstallOptions({}) as unknown as Readonly<Record<string, unknown>>;
  return Object.entries(values)
    .map(([key, [description]]) => `# ${description}\n${stringify({ [key]: defaults[key] }, { lineWidth: 0 })}`)
    .join('\n');
}

export function chartSchema(): object {
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Values of the Nearfield chart',
    type: 'object',
    additionalProperties: false,
    properties: {
      // Helm puts these there for every chart.
      global: { type: 'object' },
      ...Object.fromEntries(
        Object.entries(values).map(([key, [description, schema]]) => [key, { description, ...schema }]),
      ),
    },
  };
}
