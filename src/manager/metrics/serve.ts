import { createServer, type Server } from 'node:http';
import type { Logger } from '../../base/index.ts';

export interface StatusOptions {
  /** Undefined: there are no metrics here. */
  readonly metrics?: (() => string) | undefined;
  readonly isReady: () => boolean;
  readonly log: Logger;
}

/** Probes and scrapers come one at a time, and leave at once; whoever does not is put out within seconds. */
const limits = {
  requestTimeout: 5_000,
  headersTimeout: 5_000,
  connectionsCheckingInterval: 2_000,
  maxHeaderSize: 16_384,
};
const maxConnections = 256;
const textType = 'text/plain; version=0.0.4; charset=utf-8';

/** `/healthz` says that the process turns, `/readyz` that it serves, `/metrics` what Prometheus wants. */
export function createStatusServer({ metrics, isReady, log }: StatusOptions): {
  listen(port: number, host?: string): Promise<number>;
  close(): void;
} {
  const server: Server = createServer(limits, (request, response) => {
    const path = request.url?.split('?')[0];
    const answer = (status: number, text: string): void => {
      response.writeHead(status, { 'content-type': textType }).end(text);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      answer(405, 'GET only\n');
    } else if (path === '/healthz') {
      answer(200, 'ok\n');
    } else if (path === '/readyz') {
      answer(isReady() ? 200 : 503, isReady() ? 'ok\n' : 'not yet\n');
    } else if (path === '/metrics' && metrics) {
      answer(200, metrics());
    } else {
      answer(404, 'not found\n');
    }
  });
  server.maxConnections = maxConnections;
  server.on('clientError', (_, socket) => socket.destroy());
  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, host, () => {
          server.off('error', reject);
          server.on('error', (error) => log.warn('the status port failed', { error }));
          const address = server.address();
          resolve(typeof address === 'object' && address ? address.port : port);
        });
      }),
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
