import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Scope } from '../base/index.ts';
import { agentHealthPort } from '../protocol/index.ts';

export interface Health {
  readonly port: number;
  /** From now on every probe is answered with 200. */
  setReady(): void;
}

/**
 * What the kubelet asks whether the pod gets requests: 200 or 503. Rejects when the port is taken.
 *
 * A probe that comes too early is not held until the answer is yes, although the kubelet asks again only a second later.
 * kube-proxy writes its rules once a second at most, and the pod's address has just had its turn: callers would come no sooner,
 * but the pod that this one replaces would be told to end while they still come to it.
 */
export async function serveHealth(scope: Scope, port: number = agentHealthPort): Promise<Health> {
  let isReady = false;
  const server = createServer((_, response) => {
    response.statusCode = isReady ? 200 : 503;
    response.end();
  });
  // Probes come one at a time; whoever else can reach the port holds no more than this.
  server.maxConnections = 64;
  scope.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, () => resolve());
  });
  return {
    port: (server.address() as AddressInfo).port,
    setReady: () => {
      isReady = true;
    },
  };
}
