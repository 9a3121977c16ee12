import { type Disposable, formatIp, type IpBytes, type Logger, Scope } from '../../base/index.ts';
import type { ProxyRequest, ProxyView } from '../contract.ts';
import { ClusterDialer, type ClusterDialerDeps } from '../outbound/dial.ts';
import { createCredentials } from './credentials.ts';
import { proxyEnvironment } from './environment.ts';
import { Forward, parseForward } from './forward.ts';
import { HttpProxyServer } from './http-server.ts';
import { proxyHost } from './listener.ts';
import { lookupOnThisMachine } from './resolve.ts';
import { SocksServer } from './socks-server.ts';
import { TargetDialer, type TargetDialerDeps } from './target.ts';
import { formatTarget } from './words.ts';

export interface LocalProxyDeps extends ClusterDialerDeps, Omit<TargetDialerDeps, 'cluster' | 'lookupHere'> {
  readonly log: Logger;
  /** What programs must reach without us. */
  readonly apiServer: { readonly url: string; readonly addresses: readonly IpBytes[] };
}

/** What a machine without root gets instead of a network: proxies and forwards on loopback. */
export interface LocalProxy extends Disposable {
  /** What may be shown; without the password. */
  readonly view: ProxyView;
  /** For the debuggee and for shells; with the password: never logged. */
  readonly environment: Readonly<Record<string, string>>;
}

/** Errors: `connector.bad-forward`, `connector.port-taken`. */
export async function openLocalProxy(deps: LocalProxyDeps, request: ProxyRequest): Promise<LocalProxy> {
  const rules = (request.forwards ?? []).map(parseForward);
  const credentials = request.withoutPassword ? undefined : createCredentials();
  const scope = new Scope();
  const cluster = scope.own(new ClusterDialer(deps));
  const targets = new TargetDialer({ ...deps, cluster, lookupHere: lookupOnThisMachine });
  const server = { clock: deps.clock, log: deps.log, targets, credentials };
  try {
    const socksPort = await scope.own(new SocksServer(server)).listen();
    const httpPort = await scope.own(new HttpProxyServer(server)).listen();
    const forwards: ProxyView['forwards'][number][] = [];
    for (const { localPort, target } of rules) {
      const port = await scope.own(new Forward(server, target)).listen(localPort);
      forwards.push({ local: `${proxyHost}:${port}`, target: formatTarget(target) });
    }
    const direct = [new URL(deps.apiServer.url).hostname, ...deps.apiServer.addresses.map(formatIp)];
    return {
      view: {
        socks: `${proxyHost}:${socksPort}`,
        http: `${proxyHost}:${httpPort}`,
        needsPassword: credentials !== undefined,
        forwards,
      },
      environment: proxyEnvironment({ socksPort, httpPort, credentials, direct }),
      dispose: () => scope.dispose(),
    };
  } catch (error) {
    await scope.dispose();
    throw error;
  }
}
