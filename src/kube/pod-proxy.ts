import * as http from 'node:http';
import * as https from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { forbidden, forwardFailed } from './errors.ts';
import { proxyAgentOf, type Requester } from './request.ts';

/** What the program at the port calls its own protocol (RFC 9110 §7.8). */
export interface Upgrade {
  readonly path: string;
  readonly protocol: string;
}

export interface PodProxyOptions {
  readonly namespace: string;
  readonly pod: string;
  readonly port: number;
  readonly upgrade: Upgrade;
  /** Ends the opening; what is open stays. */
  readonly signal: AbortSignal;
}

/**
 * A connection to a port of a pod that the API server opens itself (`pods/proxy`), with neither the kubelet nor the
 * runtime on the way. The program there must take the upgrade, and speak first: who is between may agree to what it does
 * not carry. Errors: `kube.forbidden`, `kube.forward-failed`.
 */
export async function openPodProxy(requester: Requester, options: PodProxyOptions): Promise<Duplex> {
  const { namespace, pod, port, upgrade, signal } = options;
  const place = `namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}:${port}`;
  const url = new URL(`${requester.server.replace(/\/$/, '')}/api/v1/${place}/proxy${upgrade.path}`);
  const { agent, ...tls } = await requester.options();
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'http:' ? http : https).request(url, {
      ...tls,
      agent: proxyAgentOf(agent) ?? false,
      headers: { ...(tls.headers as http.OutgoingHttpHeaders), connection: 'Upgrade', upgrade: upgrade.protocol },
    });
    let opening: http.ClientRequest | Socket = request;
    const settle = (work: () => void): void => {
      signal.removeEventListener('abort', abort);
      work();
    };
    const fail = (error: Error): void => settle(() => reject(error));
    const abort = (): void => {
      opening.destroy();
      fail(forwardFailed(pod, 'given up'));
    };
    // Stays: an error without a listener would end the process.
    request.on('error', (error) => fail(forwardFailed(pod, error.message, error)));
    request.once('response', (response) => {
      const status = response.statusCode ?? 0;
      response.destroy();
      fail(
        status === 403 ? forbidden(`you may not get pods/proxy in ${namespace}`) : forwardFailed(pod, `HTTP ${status}`),
      );
    });
    request.once('upgrade', (_response, socket: Socket, head: Buffer) => {
      opening = socket;
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
      const closed = (): void => fail(forwardFailed(pod, 'closed before the program said anything'));
      socket.once('close', closed);
      socket.once('readable', () => {
        // An end is readable as well.
        if (socket.readableLength > 0) {
          socket.off('close', closed);
          settle(() => resolve(socket));
        } else {
          socket.destroy();
        }
      });
      if (head.length > 0) {
        socket.unshift(head);
      }
    });
    signal.addEventListener('abort', abort, { once: true });
    request.end();
    if (signal.aborted) {
      abort();
    }
  });
}
