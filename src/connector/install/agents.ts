import { request } from 'node:https';
import type { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import { type Clock, withTimeout } from '../../base/index.ts';
import { type Kube, type KubeObject, kinds, type V1Pod } from '../../kube/index.ts';
import { managerNotRunning, uninstallRefused } from '../errors.ts';
import { managerLabels, webhookName } from './names.ts';

/** Pods are re-created one after another; each may take its time to end. */
const removalLimitMs = 600_000;
const injectorPort = 8443;

interface WebhookObject extends KubeObject {
  readonly webhooks?: readonly { readonly clientConfig?: { readonly caBundle?: string } }[];
}

/**
 * `DELETE /uninstall` of the manager's webhook, which takes all its agents out, as the public chart's hook does. The
 * way is a port-forward; the certificate must be of the authority that the webhook is registered with.
 * Errors: `connector.manager-not-running`, `connector.uninstall-refused`, those of kube.
 */
export async function askToRemoveAgents(
  kube: Kube,
  namespace: string,
  clock: Clock,
  signal?: AbortSignal,
): Promise<void> {
  const labelSelector = Object.entries(managerLabels)
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
  const pods = await kube.list<V1Pod>(kinds.pod, { namespace, labelSelector });
  const pod = pods.find(({ metadata, status }) => !metadata?.deletionTimestamp && status?.conditions?.some(isReady))
    ?.metadata?.name;
  const webhook = await kube.get<WebhookObject>(kinds.mutatingWebhook, webhookName(namespace));
  const authority = webhook?.webhooks?.[0]?.clientConfig?.caBundle;
  if (!pod || !authority) {
    throw managerNotRunning(namespace);
  }
  await withTimeout(
    clock,
    removalLimitMs,
    'removing the traffic-agents',
    async (limit) => {
      const forward = await kube.openPortForward({ namespace, pod, port: injectorPort, signal: limit });
      try {
        const status = await callUninstall(forward, `agent-injector.${namespace}.svc`, authority, limit);
        if (status !== 200) {
          throw uninstallRefused(status);
        }
      } finally {
        forward.destroy();
      }
    },
    signal,
  );
}

const isReady = ({ type, status }: { readonly type: string; readonly status: string }): boolean =>
  type === 'Ready' && status === 'True';

function callUninstall(forward: Duplex, host: string, authority: string, signal: AbortSignal): Promise<number> {
  const ca = Buffer.from(authority, 'base64');
  return new Promise((resolve, reject) => {
    const call = request(
      {
        method: 'DELETE',
        host,
        path: '/uninstall',
        signal,
        createConnection: () => connect({ socket: forward, servername: host, ca }),
      },
      (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    );
    call.on('error', reject);
    call.end();
  });
}
