import type { KindName } from './cells.ts';

export const namespace = 'matrix';
/** Enforces Pod Security `restricted`. */
export const strictNamespace = 'matrix-strict';

export type Way = 'http' | 'rpc' | 'socket' | 'udp';

/** How one row of the matrix is built, called and attached to. */
export interface Row {
  readonly namespace: string;
  readonly workload: string;
  readonly container: string;
  readonly way: Way;
  readonly callPort: number;
  /** Without a service callers use a pod's address. */
  readonly isByPod: boolean;
  /** The port's identifier in an attach request. */
  readonly remote: string;
  readonly containerPort: number;
}

interface Recipe {
  readonly kind?: 'StatefulSet' | 'ReplicaSet';
  readonly namespace?: string;
  readonly replicas?: number;
  readonly way?: Way;
  readonly ports?: readonly object[];
  readonly container?: object;
  readonly sidecar?: object;
  readonly pod?: object;
  /** Undefined: by name. */
  readonly targetPort?: number | string;
  readonly service?: 'none' | 'headless';
  readonly more?: readonly object[];
}

const named = [{ name: 'http', containerPort: 8080 }];
const unnamed = [{ containerPort: 8080 }];
const probe = (port: string | number, more: object = {}) => ({
  httpGet: { path: '/ready', port },
  periodSeconds: 1,
  timeoutSeconds: 5,
  ...more,
});
const safe = {
  allowPrivilegeEscalation: false,
  runAsNonRoot: true,
  runAsUser: 1000,
  capabilities: { drop: ['ALL'] },
  seccompProfile: { type: 'RuntimeDefault' },
};
const budgetOf = (name: string): object => ({
  apiVersion: 'policy/v1',
  kind: 'PodDisruptionBudget',
  metadata: { name, namespace },
  spec: { maxUnavailable: 0, selector: { matchLabels: { app: name } } },
});

const recipes: Record<KindName | 'stuck', Recipe> = {
  plain: {},
  stateful: { kind: 'StatefulSet' },
  replicas: { kind: 'ReplicaSet', replicas: 2 },
  alone: { service: 'none' },
  pair: {
    sidecar: {
      name: 'admin',
      env: [
        { name: 'PORT', value: '9090' },
        { name: 'UDP_PORT', value: '9091' },
      ],
      ports: [{ name: 'admin', containerPort: 9090 }],
      readinessProbe: probe('admin'),
    },
  },
  numeric: { ports: unnamed, targetPort: 8080, container: { readinessProbe: probe(8080) } },
  headless: { service: 'headless' },
  datagrams: { way: 'udp', ports: [...named, { name: 'echo', containerPort: 8081, protocol: 'UDP' }] },
  rpc: {
    way: 'rpc',
    container: {
      args: ['/samples/rpc.cjs'],
      readinessProbe: { grpc: { port: 8080 }, periodSeconds: 1, timeoutSeconds: 5 },
    },
  },
  sockets: { way: 'socket' },
  strict: {
    ports: unnamed,
    targetPort: 8080,
    container: {
      readinessProbe: probe(8080),
      // Until it runs; from then on one failure is the end.
      startupProbe: probe(8080, { failureThreshold: 60 }),
      livenessProbe: probe(8080, { httpGet: { path: '/live', port: 8080 }, failureThreshold: 1 }),
    },
  },
  restricted: { namespace: strictNamespace, container: { securityContext: safe } },
  budget: { replicas: 2, more: [budgetOf('budget')] },
  three: { replicas: 3 },
  forbidden: {
    namespace: strictNamespace,
    ports: unnamed,
    targetPort: 8080,
    container: { securityContext: safe, readinessProbe: probe(8080) },
  },
  // No row: it shows how a workload ends that cannot be attached to at all.
  stuck: { kind: 'StatefulSet', more: [budgetOf('stuck')] },
};

export function rowOf(name: KindName): Row {
  const { namespace: space = namespace, way = 'http', service, targetPort, ports = named } = recipes[name];
  const isPort = service === undefined;
  return {
    namespace: space,
    workload: name,
    container: 'server',
    way,
    callPort: way === 'udp' ? 8081 : isPort ? 80 : 8080,
    isByPod: service === 'none',
    remote: way === 'udp' ? 'echo' : isPort && ports !== unnamed ? 'http' : String(targetPort ?? 8080),
    containerPort: way === 'udp' ? 8081 : 8080,
  };
}

export const callerName = 'caller';
export const callerPort = 7000;
const caller = { args: ['/samples/caller.cjs'], readinessProbe: { tcpSocket: { port: callerPort }, periodSeconds: 1 } };

/** Everything as one list for `kubectl apply`. */
export function manifests(): object {
  const level = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  const items = [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: strictNamespace, labels: level } },
    ...Object.entries(recipes).flatMap(([name, recipe]) => objectsOf(name, recipe)),
    ...objectsOf(callerName, { service: 'none', ports: [], container: caller }),
  ];
  return { apiVersion: 'v1', kind: 'List', items };
}

function objectsOf(name: string, recipe: Recipe): object[] {
  const { kind = 'Deployment', replicas = 1, way, ports = named, container = {}, sidecar, pod = {} } = recipe;
  const metadata = { name, namespace: recipe.namespace ?? namespace };
  const labels = { app: name };
  const image = { image: 'docker.io/nearfield/samples:1', imagePullPolicy: 'IfNotPresent' };
  const server = {
    name: 'server',
    ...image,
    env: [{ name: 'GREETING', value: 'hello from the cluster' }],
    ports,
    readinessProbe: probe('http'),
    ...container,
  };
  const containers = [server, ...(sidecar ? [{ ...image, ...sidecar }] : [])];
  const workload = {
    apiVersion: 'apps/v1',
    kind,
    metadata,
    spec: {
      replicas,
      selector: { matchLabels: labels },
      ...(kind === 'StatefulSet' ? { serviceName: name } : {}),
      template: { metadata: { labels }, spec: { terminationGracePeriodSeconds: 3, ...pod, containers } },
    },
  };
  const http = { name: 'http', port: 80, targetPort: recipe.targetPort ?? 'http' };
  const echo = { name: 'echo', port: 8081, targetPort: 'echo', protocol: 'UDP' };
  const admin = { name: 'admin', port: 90, targetPort: 'admin' };
  const isHeadless = recipe.service === 'headless';
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata,
    spec: {
      selector: labels,
      ports: [http, ...(way === 'udp' ? [echo] : []), ...(sidecar ? [admin] : [])],
      ...(isHeadless ? { clusterIP: 'None' } : {}),
    },
  };
  return [workload, ...(recipe.service === 'none' ? [] : [service]), ...(recipe.more ?? [])];
}
