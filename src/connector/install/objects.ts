import {
  clientConfigKey,
  configMapName,
  isEmptySelector,
  type LabelSelector,
  policyKey,
} from '../../protocol/index.ts';
import { type ApiObject, managerLabels, object, ours, type Place, webhookName } from './names.ts';
import type { InstallOptions } from './options.ts';
import { clientRoles, clientWorkRole, managerRoles, workRole } from './rbac.ts';

/** Everything that is installed, in the order of applying. Pure; names are those that users of the public chart know. */
export function managerObjects(options: InstallOptions): ApiObject[] {
  const { namespace, namespaces, clientRbac } = options;
  return [
    namespaceObject(namespace),
    object('v1', 'ServiceAccount', { name: 'traffic-manager', namespace, labels: ours }, {}),
    ...managerRoles(options, options.requireToken),
    ...namespaces.flatMap((each) => workRole(each, namespace)),
    ...(clientRbac.create ? clientRoles(options, clientRbac.subjects) : []),
    ...(clientRbac.create ? namespaces.flatMap((each) => clientWorkRole(each, namespace, clientRbac.subjects)) : []),
    configMap(options),
    ...services(namespace),
    ...(options.prometheus.port ? [prometheusService(namespace)] : []),
    ...(options.networkPolicy ? [networkPolicy(namespace)] : []),
    webhook(options),
    deployment(options),
  ];
}

export const namespaceObject = (namespace: string): ApiObject =>
  object('v1', 'Namespace', { name: namespace, labels: ours }, {});

export function services(namespace: string): ApiObject[] {
  const here = (name: string) => ({ name, namespace, labels: ours });
  return [
    object('v1', 'Service', here('traffic-manager'), {
      spec: {
        clusterIP: 'None',
        selector: managerLabels,
        ports: [{ name: 'api', port: 8081, targetPort: 'api', protocol: 'TCP' }],
      },
    }),
    object('v1', 'Service', here('agent-injector'), {
      spec: { selector: managerLabels, ports: [{ name: 'https', port: 8443, targetPort: 'https', protocol: 'TCP' }] },
    }),
  ];
}

/** The name is the public chart's. */
export const prometheusService = (namespace: string): ApiObject =>
  object(
    'v1',
    'Service',
    { name: 'telepresence-prometheus', namespace, labels: ours },
    {
      spec: {
        selector: managerLabels,
        ports: [{ name: 'http', port: 80, targetPort: 'prometheus', protocol: 'TCP' }],
      },
    },
  );

/** What the manager follows without a restart. JSON is YAML, and Helm writes it the same way. */
export const configMap = ({ namespace, client, intercept }: InstallOptions): ApiObject =>
  object(
    'v1',
    'ConfigMap',
    { name: configMapName, namespace, labels: ours },
    { data: { [clientConfigKey]: toSortedJson(client), [policyKey]: toSortedJson(intercept) } },
  );

const toSortedJson = (value: unknown): string =>
  typeof value === 'string'
    ? value
    : JSON.stringify(
        value,
        (_, each: unknown) =>
          typeof each === 'object' && each !== null && !Array.isArray(each)
            ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
            : each,
        2,
      );

/**
 * Who may connect to the manager. Its port-forwards come from the node, and the API server from wherever it is: no rule
 * can name these. Outwards it goes where clients go, so nothing is said about that.
 */
export function networkPolicy(namespace: string): ApiObject {
  return object(
    'networking.k8s.io/v1',
    'NetworkPolicy',
    { name: 'traffic-manager', namespace, labels: ours },
    {
      spec: {
        podSelector: { matchLabels: managerLabels },
        policyTypes: ['Ingress'],
        ingress: [
          // The agents, which are in pods of any namespace.
          { from: [{ namespaceSelector: {} }], ports: [{ port: 8081, protocol: 'TCP' }] },
          // By its name: nothing where there are no metrics. Probes come from the node, which every policy lets in.
          { from: [{ namespaceSelector: {} }], ports: [{ port: 'prometheus', protocol: 'TCP' }] },
          { ports: [{ port: 8443, protocol: 'TCP' }] },
        ],
      },
    },
  );
}

/** `Ignore`: an unreachable injector must never keep a pod from starting. The manager fills in its authority. */
export function webhook({
  namespace,
  namespaces,
  namespaceSelector = { matchLabels: {}, matchExpressions: [] },
}: Place & { readonly namespaceSelector?: LabelSelector }): ApiObject {
  const { matchLabels, matchExpressions } = namespaceSelector;
  const key = 'kubernetes.io/metadata.name';
  const selected =
    namespaces.length === 0
      ? { key, operator: 'NotIn', values: ['kube-system', 'kube-public', 'kube-node-lease', namespace] }
      : { key, operator: 'In', values: namespaces };
  return object(
    'admissionregistration.k8s.io/v1',
    'MutatingWebhookConfiguration',
    { name: webhookName(namespace), labels: ours },
    {
      webhooks: [
        {
          name: `agent-injector-${namespace}.telepresence.io`,
          clientConfig: { service: { name: 'agent-injector', namespace, path: '/traffic-agent', port: 8443 } },
          rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'], scope: '*' }],
          failurePolicy: 'Ignore',
          reinvocationPolicy: 'IfNeeded',
          sideEffects: 'None',
          timeoutSeconds: 5,
          admissionReviewVersions: ['v1'],
          namespaceSelector: {
            ...unlessEmpty('matchLabels', matchLabels),
            matchExpressions: [selected, ...matchExpressions],
          },
        },
      ],
    },
  );
}

const isEmpty = (value: object): boolean => Object.keys(value).length === 0;
const unlessEmpty = <T extends object>(name: string, value: T): Record<string, T> =>
  isEmpty(value) ? {} : { [name]: value };

export function deployment(options: InstallOptions): ApiObject {
  const { namespace, image, nodeSelector, tolerations } = options;
  return object(
    'apps/v1',
    'Deployment',
    { name: 'traffic-manager', namespace, labels: { ...ours, ...managerLabels } },
    {
      spec: {
        replicas: options.replicas,
        // Two managers at a time would each know half of the sessions.
        strategy: { type: 'Recreate' },
        selector: { matchLabels: managerLabels },
        template: {
          metadata: { labels: managerLabels },
          spec: {
            serviceAccountName: 'traffic-manager',
            terminationGracePeriodSeconds: 3,
            // A port stays taken for a minute after its connection: one destination gets 28,000 of them otherwise, and
            // finding a free one takes milliseconds long before. One of the sysctls that every cluster allows.
            securityContext: { sysctls: [{ name: 'net.ipv4.ip_local_port_range', value: '10000 65535' }] },
            ...unlessEmpty('imagePullSecrets', image.pullSecrets),
            ...unlessEmpty('nodeSelector', nodeSelector),
            ...unlessEmpty('tolerations', tolerations),
            containers: [container(options)],
          },
        },
      },
    },
  );
}

function container(options: InstallOptions): object {
  const { prometheus } = options;
  const field = (name: string, fieldPath: string) => ({
    name,
    valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } },
  });
  return {
    name: 'traffic-manager',
    image: options.imageReference,
    imagePullPolicy: options.image.pullPolicy,
    // The program itself, and how far its heap may grow, is the image's entry point.
    args: ['/app/manager.cjs'],
    env: [
      ...environment(options).map(([name, value]) => ({ name, value })),
      field('POD_IP', 'status.podIP'),
      field('MANAGER_NAMESPACE', 'metadata.namespace'),
    ],
    ports: [
      { name: 'api', containerPort: 8081, protocol: 'TCP' },
      { name: 'https', containerPort: 8443, protocol: 'TCP' },
      { name: 'health', containerPort: 8082, protocol: 'TCP' },
      ...(prometheus.port ? [{ name: 'prometheus', containerPort: prometheus.port, protocol: 'TCP' }] : []),
    ],
    readinessProbe: { httpGet: { path: '/readyz', port: 'health' }, periodSeconds: 1 },
    livenessProbe: { httpGet: { path: '/healthz', port: 'health' }, periodSeconds: 10, failureThreshold: 6 },
    ...unlessEmpty('resources', options.resources),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: 1000,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
  };
}

/** What differs from the manager's own defaults is said; the rest is left out. */
function environment(options: InstallOptions): [string, string][] {
  const { agent, agentInjector, image, namespaces } = options;
  // In the order in which Helm writes it.
  const { matchExpressions, matchLabels } = options.namespaceSelector;
  const chosen: [string, string, boolean][] = [
    ['LOG_LEVEL', options.logLevel, true],
    ['AGENT_IMAGE', agent.image || options.imageReference, true],
    ['AGENT_IMAGE_PULL_POLICY', image.pullPolicy, true],
    ['AGENT_INJECT_POLICY', agentInjector.injectPolicy, true],
    ['AGENT_LOG_LEVEL', agent.logLevel, agent.logLevel !== ''],
    ['AGENT_RESOURCES', JSON.stringify(agent.resources), !isEmpty(agent.resources)],
    ['AGENT_IMAGE_PULL_SECRETS', JSON.stringify(image.pullSecrets), !isEmpty(image.pullSecrets)],
    ['MANAGED_NAMESPACES', namespaces.join(' '), namespaces.length > 0],
    [
      'NAMESPACE_SELECTOR',
      JSON.stringify({ matchExpressions, matchLabels }),
      !isEmptySelector(options.namespaceSelector),
    ],
    ['REQUIRE_TOKEN', 'true', options.requireToken],
    ['PROMETHEUS_PORT', String(options.prometheus.port), options.prometheus.port > 0],
  ];
  return chosen.filter(([, , isSaid]) => isSaid).map(([name, value]) => [name, value]);
}
