import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import * as http from 'node:http';
import * as https from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { systemClock, withTimeout } from '../base/index.ts';
import { apiFailure, forbidden, unauthorized, unreachable } from './errors.ts';

const callTimeoutMs = 20_000;
const maxBodyBytes = 256 * 1024 * 1024;

export interface Call {
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
}

/** Of the library's agents for a connection of its own: the one that is more than TLS, e.g. a proxy. */
export const proxyAgentOf = (agent: https.RequestOptions['agent']): http.Agent | undefined =>
  typeof agent === 'object' && agent.constructor.name !== 'Agent' ? agent : undefined;

/** HTTP to one API server, with the kubeconfig's credentials, over kept connections. */
export class Requester {
  readonly #config: KubeConfig;
  readonly server: string;
  #agent: https.Agent | http.Agent | undefined;

  constructor(config: KubeConfig) {
    this.#config = config;
    this.server = config.getCurrentCluster()?.server ?? '';
  }

  /** TLS and authentication for a connection of any kind. Runs the exec plugin when the kubeconfig names one. */
  async options(): Promise<https.RequestOptions> {
    const options: https.RequestOptions = {};
    await this.#config.applyToHTTPSOptions(options);
    return options;
  }

  /** A JSON answer. Errors: `kube.unreachable`, `kube.forbidden`, `kube.unauthorized`, `kube.status-…`. */
  json<T>(call: Call): Promise<T> {
    return withTimeout(
      systemClock,
      callTimeoutMs,
      `${call.method ?? 'GET'} ${call.path}`,
      async (signal) => {
        const response = await this.stream({ ...call, signal });
        return JSON.parse(await readBody(response)) as T;
      },
      call.signal,
    );
  }

  /** The response once its head is here and says success; the body is the caller's. */
  async stream(call: Call): Promise<IncomingMessage> {
    const response = await this.#send(call);
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) {
      return response;
    }
    throw this.#failure(status, await readBody(response).catch(() => ''));
  }

  async #send(call: Call): Promise<IncomingMessage> {
    const options = await this.options();
    const url = new URL(this.server.replace(/\/$/, '') + call.path);
    for (const [key, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) {
        url.searchParams.set(key, value);
      }
    }
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
    const headers: OutgoingHttpHeaders = { ...(options.headers as OutgoingHttpHeaders), accept: 'application/json' };
    if (body) {
      headers['content-type'] = call.contentType ?? 'application/json';
      headers['content-length'] = body.length;
    }
    const module = url.protocol === 'http:' ? http : https;
    this.#agent ??= this.#createAgent(options, url.protocol === 'http:');
    const request = module.request(url, {
      ...options,
      method: call.method ?? 'GET',
      headers,
      agent: this.#agent,
      ...(call.signal ? { signal: call.signal } : {}),
    });
    return new Promise((resolve, reject) => {
      request.on('error', (error) => reject(call.signal?.aborted ? error : unreachable(this.server, error)));
      request.on('response', resolve);
      request.end(body);
    });
  }

  #createAgent(options: https.RequestOptions, isPlain: boolean): http.Agent | https.Agent {
    const kept = { keepAlive: true, maxFreeSockets: 4 };
    if (isPlain) {
      return new http.Agent(kept);
    }
    // The library's own agent is kept where it is more than TLS, e.g. a proxy.
    const { agent } = options;
    if (agent instanceof https.Agent && agent.constructor !== https.Agent) {
      return agent;
    }
    const { ca, cert, key, servername, rejectUnauthorized } = options;
    return new https.Agent({
      ...kept,
      ...Object.fromEntries(
        Object.entries({ ca, cert, key, servername, rejectUnauthorized }).filter(([, value]) => value !== undefined),
      ),
    });
  }

  #failure(status: number, body: string): Error {
    const message = messageOf(body) || `the API server answered ${status}`;
    if (status === 401) {
      return unauthorized(this.server);
    }
    return status === 403 ? forbidden(message) : apiFailure(status, message);
  }
}

function messageOf(body: string): string {
  try {
    const parsed: unknown = JSON.parse(body);
    const message = (parsed as { message?: unknown } | null)?.message;
    return typeof message === 'string' ? message : '';
  } catch {
    return body.slice(0, 300);
  }
}

async function readBody(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
    if (length > maxBodyBytes) {
      response.destroy();
      throw apiFailure(413, 'the answer of the API server is too large');
    }
  }
  return Buffer.concat(chunks).toString('utf8');
}
