import type { KubeObject } from '../../kube/index.ts';
import { clientVersion } from '../../protocol/index.ts';

export interface InstallOptions {
  readonly namespace: string;
  readonly image: string;
}

export type ApiObject = KubeObject & { readonly apiVersion: string; readonly kind: string };

export const defaultImage = `docker.io/nearfield/traffic:${clientVersion}`;
export const defaultManagerNamespace = 'ambassador';

const labels = { app: 'traffic-manager', telepresence: 'manager' };
const managed = { 'app.kubernetes.io/managed-by': 'nearfield' };

/** Everything that is installed, in the order of applying. Pure; names are those that users of the public chart know. */
export function managerObjects({ namespace, image }: InstallOptions): ApiObject[] {
  const here = (name: string) => ({ name, namespace, labels: managed });
  const roleName = `traffic-manager-${namespace}`;
  const subject = { kind: 'ServiceAccount', name: 'traffic-manager', namespace };
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
    object('v1', 'ServiceAccount', here('traffic-manager'), {}),
    object(
      'rbac.authorization.k8s.io/v1',
      'ClusterRole',
      { name: roleName, labels: managed },
      { rules: clusterRules(namespace) },
    ),
    object(
      'rbac.authorization.k8s.io/v1',
      'ClusterRoleBinding',
      { name: roleName, labels: managed },
      {
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: roleName },
        subjects: [subject],
      },
    ),
    object('rbac.authorization.k8s.io/v1', 'Role', here('traffic-manager'), { rules: ownRules() }),
    object('rbac.authorization.k8s.io/v1', 'RoleBinding', here('traffic-manager'), {
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'traffic-manager' },
      subjects: [subject],
    }),
    object('v1', 'Service', here('traffic-manager'), {
      spec: {
        clusterIP: 'None',
        selector: labels,
        ports: [{ name: 'api', port: 8081, targetPort: 'api', protocol: 'TCP' }],
      },
    }),
    object('v1', 'Service', here('agent-injector'), {
      spec: { selector: labels, ports: [{ name: 'https', port: 8443, targetPort: 'https', protocol: 'TCP' }] },
    }),
    webhook(namespace),
    deployment(namespace, image),
  ];
}

function object(apiVersion: string, kind: string, metadata: KubeObject['metadata'], rest: object): ApiObject {
  return { apiVersion, kind, ...(metadata ? { metadata } : {}), ...rest };
}

/** No more than the manager does: watch, evict, restart, and name its own certificate's authority. */
function clusterRules(namespace: string): object[] {
  return [
    { apiGroups: [''], resources: ['nodes', 'services', 'namespaces', 'pods'], verbs: ['get', 'list', 'watch'] },
    { apiGroups: [''], resources: ['pods/eviction'], verbs: ['create'] },
    {
      apiGroups: ['apps'],
      resources: ['deployments', 'replicasets', 'statefulsets'],
      verbs: ['get', 'list', 'watch', 'patch'],
    },
    { apiGroups: ['networking.k8s.io'], resources: ['servicecidrs'], verbs: ['list'] },
    {
      apiGroups: ['admissionregistration.k8s.io'],
      resources: ['mutatingwebhookconfigurations'],
      resourceNames: [`agent-injector-webhook-${namespace}`],
      verbs: ['get', 'patch'],
    },
  ];
}

function ownRules(): object[] {
  return [
    {
      apiGroups: [''],
      resources: ['secrets'],
      resourceNames: ['mutator-webhook-tls'],
      verbs: ['get', 'update', 'patch'],
    },
    // Creation cannot be limited to a name.
    { apiGroups: [''], resources: ['secrets'], verbs: ['create'] },
  ];
}

/** `Ignore`: an unreachable injector must never keep a pod from starting. The manager fills in its authority. */
function webhook(namespace: string): ApiObject {
  return object(
    'admissionregistration.k8s.io/v1',
    'MutatingWebhookConfiguration',
    { name: `agent-injector-webhook-${namespace}`, labels: managed },
    {
      webhooks: [
        {
          name: `agent-injector-${namespace}.telepresence.io`,
          clientConfig: { service: { name: 'agent-injector', namespace, path: '/traffic-agent', port: 8443 } },
          rules: [
            { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE', 'DELETE'], resources: ['pods'], scope: '*' },
          ],
          failurePolicy: 'Ignore',
          reinvocationPolicy: 'IfNeeded',
          sideEffects: 'None',
          timeoutSeconds: 5,
          admissionReviewVersions: ['v1'],
          namespaceSelector: {
            matchExpressions: [
              {
                key: 'kubernetes.io/metadata.name',
                operator: 'NotIn',
                values: ['kube-system', 'kube-public', 'kube-node-lease', namespace],
              },
            ],
          },
        },
      ],
    },
  );
}

function deployment(namespace: string, image: string): ApiObject {
  const field = (name: string, fieldPath: string) => ({
    name,
    valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } },
  });
  const container = {
    name: 'traffic-manager',
    image,
    imagePullPolicy: 'IfNotPresent',
    command: ['/usr/local/bin/node'],
    args: ['/app/manager.cjs'],
    env: [
      { name: 'LOG_LEVEL', value: 'info' },
      { name: 'AGENT_IMAGE', value: image },
      field('POD_IP', 'status.podIP'),
      field('MANAGER_NAMESPACE', 'metadata.namespace'),
    ],
    ports: [
      { name: 'api', containerPort: 8081, protocol: 'TCP' },
      { name: 'https', containerPort: 8443, protocol: 'TCP' },
    ],
    readinessProbe: { tcpSocket: { port: 'api' }, periodSeconds: 1 },
    livenessProbe: { tcpSocket: { port: 'api' }, periodSeconds: 10, failureThreshold: 6 },
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: 1000,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
  };
  return object(
    'apps/v1',
    'Deployment',
    { name: 'traffic-manager', namespace, labels: { ...managed, ...labels } },
    {
      spec: {
        replicas: 1,
        // Two managers at a time would each know half of the sessions.
        strategy: { type: 'Recreate' },
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            serviceAccountName: 'traffic-manager',
            terminationGracePeriodSeconds: 3,
            // A port stays taken for a minute after its connection: one destination gets 28,000 of them otherwise, and
            // finding a free one takes milliseconds long before. One of the sysctls that every cluster allows.
            securityContext: { sysctls: [{ name: 'net.ipv4.ip_local_port_range', value: '10000 65535' }] },
            containers: [container],
          },
        },
      },
    },
  );
}
