import { readFile, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type Client, createClient } from '@connectrpc/connect';
import { parse } from 'yaml';
import { systemClock } from '../../src/base/index.ts';
import { kinds, loadKube, type V1Pod } from '../../src/kube/index.ts';
import { Agent, metadataOf, wire } from '../../src/protocol/index.ts';
import {
  createCallTransport,
  type Mux,
  openHttp2,
  openMux,
  openTunnel,
  type TunnelCall,
} from '../../src/protocol/transport/index.ts';
import { run } from '../cluster/shell.ts';

// Several people at one cluster: their kubeconfigs, and peers of the wire that say of themselves what they like.

type Credentials =
  | { readonly token: string }
  | { readonly 'client-certificate-data': string; readonly 'client-key-data': string };

interface Kubeconfig {
  readonly users: { readonly name: string; readonly user: object }[];
  readonly contexts: { readonly name: string; readonly context: { readonly user: string } }[];
}

/** The cluster's kubeconfig with other credentials; answers its path. */
export async function kubeconfigOf(admin: string, folder: string, name: string, user: Credentials): Promise<string> {
  const config = parse(await readFile(admin, 'utf8')) as Kubeconfig;
  const path = join(folder, `${name}.kubeconfig`);
  const contexts = config.contexts.map((each) => ({ ...each, context: { ...each.context, user: name } }));
  await writeFile(path, JSON.stringify({ ...config, users: [{ name, user }], contexts }), { mode: 0o600 });
  return path;
}

/** A client certificate of the test cluster's own authority. */
export async function certificateOf(admin: string, folder: string, name: string): Promise<Credentials> {
  const pki = join(dirname(admin), 'pki');
  const at = (end: string): string => join(folder, `${name}.${end}`);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at('key')];
  await run('openssl', ['req', ...key, '-out', at('csr'), '-subj', `/CN=${name}`]);
  const authority = ['-CA', join(pki, 'ca.crt'), '-CAkey', join(pki, 'ca.key'), '-set_serial', '4711'];
  await run('openssl', ['x509', '-req', '-in', at('csr'), ...authority, '-out', at('crt'), '-days', '1']);
  const data = async (end: string): Promise<string> => (await readFile(at(end))).toString('base64');
  return { 'client-certificate-data': await data('crt'), 'client-key-data': await data('key') };
}

export interface Peer {
  readonly manager: Client<typeof wire.Manager>;
  readonly agent: Client<typeof Agent>;
  tunnel(service: 'manager' | 'agent'): TunnelCall;
  /** Asks an agent for all connections of a session in one stream. */
  carry(sessionId: string): Promise<Mux | undefined>;
  close(): void;
}

/** Speaks the wire through a port-forward, with this token or none. */
export async function openPeer(
  kubeconfig: string,
  where: { readonly namespace: string; readonly selector: string; readonly port: number },
  token?: string,
): Promise<Peer> {
  const kube = loadKube({ kubeconfig });
  const { signal } = new AbortController();
  const pod = await podOf(kubeconfig, where);
  const forwards: Duplex[] = [];
  const open = async (): Promise<Duplex> => {
    const forward = await kube.openPortForward({ ...pod, signal });
    forwards.push(forward);
    return forward;
  };
  const session = await openHttp2(await open(), { clock: systemClock, signal });
  const authorization = async (): Promise<string | undefined> => (token === undefined ? undefined : metadataOf(token));
  const transport = createCallTransport(session, { authorization });
  return {
    manager: createClient(wire.Manager, transport),
    agent: createClient(Agent, transport),
    tunnel: (service) => openTunnel(session, service),
    carry: async (sessionId) =>
      openMux(await open(), { clock: systemClock, sessionId, signal, onOpen: (each) => each.reset() }),
    close: () => {
      session.destroy();
      for (const forward of forwards) {
        forward.destroy();
      }
    },
  };
}

async function podOf(
  kubeconfig: string,
  { namespace, selector, port }: { readonly namespace: string; readonly selector: string; readonly port: number },
) {
  const pods = await loadKube({ kubeconfig }).list<V1Pod>(kinds.pod, { namespace, labelSelector: selector });
  const pod = pods.find(({ metadata, status }) => !metadata?.deletionTimestamp && status?.phase === 'Running');
  return { namespace, pod: pod?.metadata?.name ?? '', port };
}

/** One HTTP GET of a pod, through a port-forward. */
export async function getFromPod(
  kubeconfig: string,
  where: { readonly namespace: string; readonly selector: string; readonly port: number },
  path: string,
): Promise<{ readonly status: number; readonly text: string }> {
  const { signal } = new AbortController();
  const forward = await loadKube({ kubeconfig }).openPortForward({ ...(await podOf(kubeconfig, where)), signal });
  return new Promise((resolve, reject) => {
    const request = get({ path, createConnection: () => forward as never, timeout: 10_000 }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => {
        forward.destroy();
        resolve({ status: response.statusCode ?? 0, text });
      });
    });
    request.on('error', reject);
  });
}
