import { configMapName } from '../../protocol/index.ts';
import { type ApiObject, certificateSecret, object, ours, type Place, webhookName } from './names.ts';
import type { InstallOptions } from './options.ts';

/** A rule of a role, and why the manager or a client needs it: docs/install.md is compared with this. */
export interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
  readonly why: string;
}

const group = 'rbac.authorization.k8s.io';

/** In each namespace that the manager works in. */
export const workRules: readonly Rule[] = [
  {
    apiGroups: [''],
    resources: ['pods', 'services'],
    verbs: ['list', 'watch'],
    why: 'which pods a service leads to, and what their addresses are',
  },
  {
    apiGroups: ['apps'],
    resources: ['deployments', 'replicasets', 'statefulsets'],
    verbs: ['list', 'watch'],
    why: 'the workloads that can be attached to, and whose a pod is',
  },
  {
    apiGroups: ['apps'],
    resources: ['deployments'],
    verbs: ['patch'],
    why: 'a rolling update of a single pod: its successor, with the agent, is ready first',
  },
  {
    apiGroups: [''],
    resources: ['pods/eviction'],
    verbs: ['create'],
    why: 'one of several pods is re-created with the agent; disruption budgets are honoured',
  },
  {
    apiGroups: [''],
    resources: ['namespaces'],
    verbs: ['get'],
    why: 'the Pod Security level of a namespace: whether ports may be redirected there',
  },
];

/** Of the cluster as a whole, also for a manager that works in some namespaces only. */
export const clusterRules = (namespace: string): readonly Rule[] => [
  {
    apiGroups: ['networking.k8s.io'],
    resources: ['servicecidrs'],
    verbs: ['list'],
    why: 'the addresses of services, which clients route',
  },
  {
    apiGroups: ['admissionregistration.k8s.io'],
    resources: ['mutatingwebhookconfigurations'],
    resourceNames: [webhookName(namespace)],
    verbs: ['patch'],
    why: 'writes the authority of its own certificate into its own webhook',
  },
  {
    apiGroups: ['authentication.k8s.io'],
    resources: ['tokenreviews'],
    verbs: ['create'],
    why: 'asks the API server whose a client’s token is',
  },
];

export const nodeRules: readonly Rule[] = [
  {
    apiGroups: [''],
    resources: ['nodes'],
    verbs: ['list', 'watch'],
    why: 'the addresses of pods, which clients route; without it they are guessed from the pods seen',
  },
];

export const tokenRules: readonly Rule[] = [
  {
    apiGroups: ['authorization.k8s.io'],
    resources: ['subjectaccessreviews'],
    verbs: ['create'],
    why: 'asks the API server what that client may do',
  },
];

export const ownRules = (namespace: string): readonly Rule[] => [
  {
    apiGroups: [''],
    resources: ['namespaces'],
    resourceNames: [namespace],
    verbs: ['get'],
    why: 'the id of this installation',
  },
  {
    apiGroups: [''],
    resources: ['secrets'],
    resourceNames: [certificateSecret],
    verbs: ['get', 'patch'],
    why: 'keeps the webhook’s certificate over a restart, and renews it',
  },
  {
    apiGroups: [''],
    resources: ['secrets'],
    verbs: ['create'],
    why: 'makes that secret the first time; Kubernetes cannot limit creation to a name',
  },
  {
    apiGroups: [''],
    resources: ['configmaps'],
    resourceNames: [configMapName],
    verbs: ['get', 'list', 'watch'],
    why: 'what you decide about attachments and clients, without a restart',
  },
];

/** The watches of a manager that does not work everywhere: its own Service and pod are there. */
const ownWatch: readonly Rule[] = workRules.slice(0, 2);

/** What a developer needs in the manager's namespace: to find its pod and to forward a port to it. */
export const connectRules: readonly Rule[] = [
  {
    apiGroups: [''],
    resources: ['services'],
    resourceNames: ['traffic-manager'],
    verbs: ['get'],
    why: 'finds the manager',
  },
  { apiGroups: [''], resources: ['pods'], verbs: ['list'], why: 'finds the manager’s pod' },
  { apiGroups: [''], resources: ['pods/portforward'], verbs: ['create', 'get'], why: 'the way to the manager' },
  {
    apiGroups: [''],
    resources: ['pods/proxy'],
    verbs: ['get'],
    why: 'a way that is twice as fast, where the API server reaches pods',
  },
];

/** What a developer needs in the namespaces that they work in. */
export const developRules: readonly Rule[] = [
  {
    apiGroups: [''],
    resources: ['services'],
    verbs: ['get', 'list', 'watch'],
    why: 'the services in the tree',
  },
  {
    apiGroups: [''],
    resources: ['pods/portforward'],
    verbs: ['create', 'get'],
    why: 'straight to the agent; without it the traffic of an attachment goes through the manager',
  },
  {
    apiGroups: [''],
    resources: ['pods/proxy'],
    verbs: ['get'],
    why: 'the same, twice as fast where the API server reaches pods',
  },
  {
    apiGroups: ['nearfield.dev'],
    resources: ['connections', 'attachments'],
    verbs: ['create'],
    why: 'connecting to the namespace, and attaching to what is in it; asked about only with requireToken',
  },
];

/** Where roles are cluster-wide: the names of namespaces, for the tree and for DNS. */
export const namespaceRules: readonly Rule[] = [
  { apiGroups: [''], resources: ['namespaces'], verbs: ['list', 'watch'], why: 'the namespaces in the tree' },
];

/** Role and binding; cluster-wide without a namespace. */
function granted(name: string, namespace: string | undefined, rules: readonly Rule[], subjects: readonly object[]) {
  const prefix = namespace === undefined ? 'Cluster' : '';
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }), labels: ours };
  return [
    object(`${group}/v1`, `${prefix}Role`, metadata, { rules: rules.map(({ why: _, ...rule }) => rule) }),
    object(`${group}/v1`, `${prefix}RoleBinding`, metadata, {
      roleRef: { apiGroup: group, kind: `${prefix}Role`, name },
      subjects,
    }),
  ];
}

const managerSubject = (namespace: string): object => ({
  kind: 'ServiceAccount',
  name: 'traffic-manager',
  namespace,
});

/** Pure: the manager's rights, without those in the namespaces that it works in where these are listed. */
export function managerRoles({ namespace, namespaces }: Place, requireToken: boolean): ApiObject[] {
  const isEverywhere = namespaces.length === 0;
  const subjects = [managerSubject(namespace)];
  return [
    ...granted(
      `traffic-manager-${namespace}`,
      undefined,
      [
        ...(isEverywhere ? [...workRules, ...nodeRules] : []),
        ...clusterRules(namespace),
        ...(requireToken ? tokenRules : []),
      ],
      subjects,
    ),
    ...granted(
      'traffic-manager',
      namespace,
      [...ownRules(namespace), ...(isEverywhere || namespaces.includes(namespace) ? [] : ownWatch)],
      subjects,
    ),
  ];
}

/** Pure: the manager's rights in one of the namespaces that it works in. */
export function workRole(namespace: string, managerNamespace: string): ApiObject[] {
  return granted(`traffic-manager-work-${managerNamespace}`, namespace, workRules, [managerSubject(managerNamespace)]);
}

/** A subject as a binding wants it. */
const toSubject = (subject: InstallOptions['clientRbac']['subjects'][number]): object =>
  subject.kind === 'ServiceAccount' ? subject : { apiGroup: group, ...subject };

/** Pure: the role of developers in the manager's namespace, and everywhere where it is cluster-wide. */
export function clientRoles({ namespace, namespaces }: Place, given: InstallOptions['clientRbac']['subjects']) {
  const subjects = given.map(toSubject);
  return [
    ...granted('traffic-manager-connect', namespace, connectRules, subjects),
    ...(namespaces.length === 0
      ? granted(`traffic-manager-client-${namespace}`, undefined, [...namespaceRules, ...developRules], subjects)
      : []),
  ];
}

export function clientWorkRole(
  namespace: string,
  managerNamespace: string,
  subjects: InstallOptions['clientRbac']['subjects'],
): ApiObject[] {
  return granted(`traffic-manager-client-${managerNamespace}`, namespace, developRules, subjects.map(toSubject));
}
