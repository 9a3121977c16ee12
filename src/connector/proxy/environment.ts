import { type Credentials, userInfoOf } from './credentials.ts';
import { proxyHost } from './listener.ts';

export interface ProxyPlace {
  readonly socksPort: number;
  readonly httpPort: number;
  readonly credentials: Credentials | undefined;
  /** Hosts that keep their own way: the API server's name and addresses. */
  readonly direct: readonly string[];
}

/**
 * The variables that lead a program through the proxies. Both spellings: some programs read only the lower-case ones,
 * as a web server must not take `HTTP_PROXY` from a header. Java reads none of them, and its own variable would print
 * the password at each start.
 */
export function proxyEnvironment({ socksPort, httpPort, credentials, direct }: ProxyPlace): Record<string, string> {
  const http = `http://${userInfoOf(credentials)}${proxyHost}:${httpPort}`;
  const values = {
    HTTP_PROXY: http,
    HTTPS_PROXY: http,
    ALL_PROXY: `socks5h://${userInfoOf(credentials)}${proxyHost}:${socksPort}`,
    NO_PROXY: [...new Set(['localhost', '127.0.0.1', '::1', ...direct])].join(','),
  };
  return {
    ...values,
    ...Object.fromEntries(Object.entries(values).map(([name, value]) => [name.toLowerCase(), value])),
    // Node 24 and later: `fetch` and `http` follow the variables above.
    NODE_USE_ENV_PROXY: '1',
  };
}
