import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { Socket } from 'node:net';
import { type Clock, type Logger, plainAddress, Seldom } from '../../base/index.ts';
import type { V1Pod } from '../../kube/index.ts';
import { badRequest } from '../errors.ts';
import type { WebhookCertificate } from './certificate.ts';
import type { PatchOperation } from './patch.ts';

export interface WebhookOptions {
  readonly port: number;
  readonly certificate: WebhookCertificate;
  /** The patch for a new pod; an empty one admits it as it is. */
  readonly patch: (pod: V1Pod, namespace: string) => Promise<PatchOperation[]>;
  /** Removes all agents; asked for by DELETE /uninstall. */
  readonly uninstall: () => Promise<void>;
  /** Anybody in the cluster reaches this port, and not everybody may ask for that. */
  readonly mayUninstall: (address: string) => Promise<boolean>;
  readonly clock: Clock;
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
/** Reviews that are on their way at the same time; a thousand pods that start at once send far less. */
const maxBodyBytes = 24 * 1024 * 1024;
const maxConnections = 256;
/** Longer than any name of Kubernetes. */
const maxNameLength = 253;
/** The API server gives up after ten seconds; who takes longer for a head or a handshake is not it. */
const requestTimeoutMs = 10_000;
const headTimeoutMs = 5_000;

/** The agent-injector: HTTPS on the webhook's port. Whatever goes wrong, the pod is admitted unchanged. */
export function createWebhook(options: WebhookOptions): { listen(): Promise<void>; close(): void } {
  const {
    certificate,
    certificate: { key },
  } = options;
  const refuse = limitedLog(options);
  const bodies: Bodies = { bytes: 0 };
  const server = createServer(
    {
      ...{ cert: certificate.certificate, key, handshakeTimeout: headTimeoutMs },
      ...{ requestTimeout: requestTimeoutMs, headersTimeout: headTimeoutMs, connectionsCheckingInterval: 1_000 },
    },
    (request, response) => {
      handle(request, response, { ...options, bodies }).catch((error: unknown) => {
        refuse('a request that cannot be served', request.socket.remoteAddress, error);
        answer(response, 400, 'bad request');
      });
    },
  );
  server.maxConnections = maxConnections;
  server.on('tlsClientError', (error, socket) => {
    refuse('no TLS', socket.remoteAddress, error);
    socket.destroy();
  });
  server.on('clientError', (error, socket) => {
    refuse('no HTTP', (socket as Socket).remoteAddress, error);
    socket.destroy();
  });
  server.on('drop', (data) => refuse('too many connections', data?.remoteAddress));
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

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  options: WebhookOptions & { readonly bodies: Bodies },
): Promise<void> {
  const path = request.url?.split('?')[0];
  if (path === '/healthz') {
    answer(response, 200, 'ok');
  } else if (path === '/uninstall' && request.method === 'DELETE') {
    const address = plainAddress(request.socket.remoteAddress);
    if (await options.mayUninstall(address)) {
      await options.uninstall();
      answer(response, 200, 'ok');
    } else {
      options.log.info('a request to remove all agents was refused', { from: address });
      answer(response, 403, 'only through a port-forward, or from the namespace of the traffic-manager');
    }
  } else if (path === '/traffic-agent' && request.method === 'POST') {
    const body = await readBody(request, options.bodies);
    if (body === undefined) {
      answer(response, 413, 'too large');
      return;
    }
    const review = parseReview(body);
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

/** Bytes that all requests together hold. */
interface Bodies {
  bytes: number;
}

/** Undefined when it, or all of them together, are too large. */
async function readBody(request: IncomingMessage, bodies: Bodies): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
      length += (chunk as Buffer).length;
      bodies.bytes += (chunk as Buffer).length;
      if (length > maxReviewBytes || bodies.bytes > maxBodyBytes) {
        return undefined;
      }
    }
    return Buffer.concat(chunks).toString('utf8');
  } finally {
    bodies.bytes -= length;
  }
}

/** What is no review asks for nothing. Errors: `manager.bad-request`. */
export function parseReview(text: string): AdmissionReview {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw badRequest('the review is not JSON');
  }
  const { request } = (typeof value === 'object' && value !== null ? value : {}) as { readonly request?: unknown };
  if (typeof request !== 'object' || request === null) {
    throw badRequest('the review has no request');
  }
  const { uid, operation, namespace, object } = request as Readonly<Record<string, unknown>>;
  if (typeof uid !== 'string' || uid.length > maxNameLength || typeof operation !== 'string') {
    throw badRequest('the review has no id or no operation');
  }
  return {
    request: {
      ...{ uid, operation },
      ...(typeof namespace === 'string' && namespace.length <= maxNameLength ? { namespace } : {}),
      ...(typeof object === 'object' && object !== null ? { object: object as V1Pod } : {}),
    },
  };
}

/** One line in a while, with how many more there were: strangers decide how often. */
function limitedLog({ clock, log }: Pick<WebhookOptions, 'clock' | 'log'>) {
  const line = new Seldom(clock);
  return (what: string, address: string | undefined, error?: unknown): void => {
    const more = line.next();
    if (more !== undefined) {
      log.info('a caller was refused', { what, address: plainAddress(address), more, ...(error ? { error } : {}) });
    }
  };
}
