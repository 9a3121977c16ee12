import type { KubeObject } from '../../kube/index.ts';

export type ApiObject = KubeObject & { readonly apiVersion: string; readonly kind: string };

/** How the Service finds the manager's pod, and how users of the public chart do. */
export const managerLabels = { app: 'traffic-manager', telepresence: 'manager' };
/** Whatever carries this is ours, whoever installed it; Helm writes its own name into `managed-by`. */
export const ours = { 'app.kubernetes.io/managed-by': 'nearfield', 'app.kubernetes.io/part-of': 'nearfield' };
export const certificateSecret = 'mutator-webhook-tls';
export const webhookName = (namespace: string): string => `agent-injector-webhook-${namespace}`;

/** Where the manager's rules are put: `namespaces` is empty for a manager that works everywhere. */
export interface Place {
  readonly namespace: string;
  readonly namespaces: readonly string[];
}

export function object(apiVersion: string, kind: string, metadata: KubeObject['metadata'], rest: object): ApiObject {
  return { apiVersion, kind, ...(metadata ? { metadata } : {}), ...rest };
}
