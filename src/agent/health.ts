import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock, Scope } from '../base/index.ts';
import { agentHealthPort } from '../protocol/index.ts';

/** Less than what the injector allows a probe, so that “not yet” is still an answer. */
const holdMs = 2_500;

export interface Health {
  readonly port: number;
  /** From now on every probe is answered with 200, those that wait among them. */
  setReady(): void;
}

/**
 * What the kubelet asks whether the pod gets requests: 200, or 503 after `holdMs`. A probe waits for its answer, since the
 * kubelet repeats a failed one a second later and an attachment would wait for that. Rejects when the port is taken.
 */
export async function serveHealth(scope: Scope, clock: Clock, port: number = agentHealthPort): Promise<Health> {
  let isReady = false;
  const waiting = new Set<() => void>();
  const answer = (response: ServerResponse, status: number): void => {
    response.statusCode = status;
    response.end();
  };
  const server = createServer((_, response) => {
    if (isReady) {
      answer(response, 200);
      return;
    }
    const settle = (): void => {
      waiting.delete(settle);
      void limit.dispose();
      answer(response, isReady ? 200 : 503);
    };
    const limit = clock.after(holdMs, settle);
    waiting.add(settle);
    response.once('close', () => {
      waiting.delete(settle);
      void limit.dispose();
    });
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
      for (const settle of waiting) {
        settle();
      }
    },
  };
}
