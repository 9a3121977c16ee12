/** Where the objects of a kind live in the API. */
export interface Kind {
  readonly apiVersion: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
}

const define = (apiVersion: string, kind: string, plural: string, namespaced = true): Kind => ({
  apiVersion,
  kind,
  plural,
  namespaced,
});

export const kinds = {
  namespace: define('v1', 'Namespace', 'namespaces', false),
  node: define('v1', 'Node', 'nodes', false),
  pod: define('v1', 'Pod', 'pods'),
  service: define('v1', 'Service', 'services'),
  secret: define('v1', 'Secret', 'secrets'),
  configMap: define('v1', 'ConfigMap', 'configmaps'),
  serviceAccount: define('v1', 'ServiceAccount', 'serviceaccounts'),
  deployment: define('apps/v1', 'Deployment', 'deployments'),
  replicaSet: define('apps/v1', 'ReplicaSet', 'replicasets'),
  statefulSet: define('apps/v1', 'StatefulSet', 'statefulsets'),
  persistentVolumeClaim: define('v1', 'PersistentVolumeClaim', 'persistentvolumeclaims'),
  networkPolicy: define('networking.k8s.io/v1', 'NetworkPolicy', 'networkpolicies'),
  serviceCidr: define('networking.k8s.io/v1', 'ServiceCIDR', 'servicecidrs', false),
  role: define('rbac.authorization.k8s.io/v1', 'Role', 'roles'),
  roleBinding: define('rbac.authorization.k8s.io/v1', 'RoleBinding', 'rolebindings'),
  clusterRole: define('rbac.authorization.k8s.io/v1', 'ClusterRole', 'clusterroles', false),
  clusterRoleBinding: define('rbac.authorization.k8s.io/v1', 'ClusterRoleBinding', 'clusterrolebindings', false),
  mutatingWebhook: define(
    'admissionregistration.k8s.io/v1',
    'MutatingWebhookConfiguration',
    'mutatingwebhookconfigurations',
    false,
  ),
} as const satisfies Record<string, Kind>;

export function kindOf(object: { readonly apiVersion?: string; readonly kind?: string }): Kind | undefined {
  return Object.values(kinds).find((kind) => kind.apiVersion === object.apiVersion && kind.kind === object.kind);
}

export function pathOf(kind: Kind, namespace?: string, name?: string): string {
  const group = kind.apiVersion.includes('/') ? `/apis/${kind.apiVersion}` : `/api/${kind.apiVersion}`;
  const scope = kind.namespaced && namespace ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${group}${scope}/${kind.plural}${name ? `/${encodeURIComponent(name)}` : ''}`;
}
