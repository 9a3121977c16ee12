import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { Logger } from '../../base/index.ts';
import type { V1Pod } from '../../kube/index.ts';
import type { WebhookCertificate } from './certificate.ts';
import type { PatchOperation } from './patch.ts';

export interface WebhookOptions {
  readonly port: number;
  readonly certificate: WebhookCertificate;
  /** The patch for a new pod; an empty one admits it as it is. */
  readonly patch: (pod: V1Pod, namespace: string) => Promise<PatchOperation[]>;
  /** Removes all agents; asked for by DELETE /uninstall. */
  readonly uninstall: () => Promise<void>;
  readonly log: Logger;
}

interface AdmissionReview {
  readonly request?: {
    readonly uid: string;
    readonly operation: string;
    readonly namespace?: string;
    readonly object?: V1Pod;
  };
}

/** A review carries one pod; the API server limits objects to 3 MiB. */
const maxReviewBytes = 6 * 1024 * 1024;

/** The agent-injector: HTTPS on the webhook's port. Whatever goes wrong, the pod is admitted unchanged. */
export function createWebhook(options: WebhookOptions): { listen(): Promise<void>; close(): void } {
  const {
    certificate,
    certificate: { key },
  } = options;
  const server = createServer({ cert: certificate.certificate, key, requestTimeout: 10_000 }, (request, response) => {
    handle(request, response, options).catch((error: unknown) => {
      options.log.error('webhook request failed', { error });
      answer(response, 400, 'bad request');
    });
  });
  server.on('tlsClientError', () => undefined);
  return {
    listen: () =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(options.port, () => resolve());
      }),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function handle(request: IncomingMessage, response: ServerResponse, options: WebhookOptions): Promise<void> {
  const path = request.url?.split('?')[0];
  if (path === '/healthz') {
    answer(response, 200, 'ok');
  } else if (path === '/uninstall' && request.method === 'DELETE') {
    await options.uninstall();
    answer(response, 200, 'ok');
  } else if (path === '/traffic-agent' && request.method === 'POST') {
    const review = JSON.parse(await readBody(request)) as AdmissionReview;
    response.setHeader('content-type', 'application/json');
    answer(response, 200, JSON.stringify(await reviewAnswer(review, options)));
  } else {
    answer(response, path === '/traffic-agent' ? 405 : 404, 'no such thing here');
  }
}

export async function reviewAnswer(
  review: AdmissionReview,
  { patch, log }: Pick<WebhookOptions, 'patch' | 'log'>,
): Promise<object> {
  const { request } = review;
  const response: { uid: string; allowed: boolean; patchType?: string; patch?: string } = {
    uid: request?.uid ?? '',
    allowed: true,
  };
  try {
    const operations =
      request?.operation === 'CREATE' && request.object ? await patch(request.object, request.namespace ?? '') : [];
    if (operations.length > 0) {
      response.patchType = 'JSONPatch';
      response.patch = Buffer.from(JSON.stringify(operations)).toString('base64');
    }
  } catch (error) {
    log.error('pod admitted without an agent: making the patch failed', { error });
  }
  return { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response };
}

function answer(response: ServerResponse, status: number, body: string): void {
  response.statusCode = status;
  response.end(body);
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
    if (length > maxReviewBytes) {
      request.destroy();
      return '{}';
    }
  }
  return Buffer.concat(chunks).toString('utf8');
}
