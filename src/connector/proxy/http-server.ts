import { createServer, type IncomingMessage, request, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import type { Disposable } from '../../base/index.ts';
import { isAccepted } from './credentials.ts';
import { Listener } from './listener.ts';
import type { ProxyServerDeps } from './socks-server.ts';
import type { Target, TargetFailure } from './target.ts';
import { formatTarget, parseTarget, sentenceOf } from './words.ts';

const headersTimeoutMs = 10_000;
const keepAliveTimeoutMs = 60_000;
const maxHeaderBytes = 64 * 1024;
const lingerMs = 2_000;
const via = '1.1 nearfield';

/** Of one connection only (RFC 9110 §7.6.1); those that `Connection` names come on top. */
const hopByHop = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

interface Refusal {
  readonly status: number;
  readonly sentence: string;
}

const refusal = (status: number, sentence: string): Refusal => ({ status, sentence });
const notAProxyRequest = refusal(400, 'This is a proxy: ask with CONNECT host:port, or with a whole http:// URL.');
const passwordNeeded = refusal(407, 'This proxy belongs to a Nearfield session: its password is needed.');

/**
 * An HTTP proxy on loopback: CONNECT (RFC 9110 §9.3.6), and whole `http://` URLs (RFC 9112 §3.2.2), each of which
 * gets a connection of its own. Node parses, and refuses what is not HTTP; its time limits hold for the headers.
 */
export class HttpProxyServer implements Disposable {
  readonly #deps: ProxyServerDeps;
  readonly #listener: Listener;

  constructor(deps: ProxyServerDeps) {
    this.#deps = deps;
    const server = createServer({
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: headersTimeoutMs,
      keepAliveTimeout: keepAliveTimeoutMs,
      connectionsCheckingInterval: headersTimeoutMs / 2,
      // An upload may take as long as it takes.
      requestTimeout: 0,
      noDelay: true,
    });
    server.on('connect', (head: IncomingMessage, socket: Socket, first: Buffer) => this.#tunnel(head, socket, first));
    server.on('request', (head, response) => void this.#relay(head, response));
    server.on('checkContinue', (head, response) => void this.#relay(head, response));
    this.#listener = new Listener(server);
  }

  listen(port = 0): Promise<number> {
    return this.#listener.listen(port);
  }

  dispose(): void {
    this.#listener.dispose();
  }

  async #tunnel(head: IncomingMessage, socket: Socket, first: Buffer): Promise<void> {
    // The server has let go of the socket, and of its listeners.
    socket.on('error', () => undefined);
    const target = parseTarget(head.url ?? '');
    const refused = this.#isAllowed(head) ? (target ? undefined : notAProxyRequest) : passwordNeeded;
    if (refused || !target) {
      this.#refuse(socket, refused ?? notAProxyRequest);
      return;
    }
    socket.pause();
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    socket.once('close', abort);
    const outcome = await this.#deps.targets.dialTcp(target, controller.signal);
    socket.off('close', abort);
    if (outcome.result !== 'ok') {
      this.#refuse(socket, this.#failed(target, outcome.result));
    } else if (socket.destroyed) {
      outcome.connection.reset();
    } else {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      if (first.length > 0) {
        socket.unshift(first);
      }
      outcome.connection.join(socket);
      socket.resume();
    }
  }

  async #relay(head: IncomingMessage, response: ServerResponse): Promise<void> {
    response.sendDate = false;
    const found = this.#isAllowed(head) ? parseUrl(head.url ?? '') : passwordNeeded;
    if ('status' in found) {
      answer(response, found);
      return;
    }
    const controller = new AbortController();
    response.once('close', () => controller.abort());
    const outcome = await this.#deps.targets.dialTcp(found.target, controller.signal);
    if (outcome.result !== 'ok') {
      answer(response, this.#failed(found.target, outcome.result));
      return;
    }
    if (controller.signal.aborted) {
      outcome.connection.reset();
      return;
    }
    this.#exchange(head, response, found, outcome.connection.toDuplex());
  }

  /** One request and its answer over a fresh connection; an answer that breaks off breaks off here too. */
  #exchange(head: IncomingMessage, response: ServerResponse, { target, authority, path }: Found, far: Duplex): void {
    far.on('error', () => undefined);
    const outgoing = request({
      createConnection: () => far,
      method: head.method ?? 'GET',
      path: head.method === 'OPTIONS' && path === '' ? '*' : path.startsWith('/') ? path : `/${path}`,
      // Host is the URL's, whatever the client wrote (RFC 9112 §3.2.2).
      headers: ['Host', authority, ...endToEnd(head, ['host']), ...framing(head), 'Via', via, 'Connection', 'close'],
    });
    const end = (): void => {
      outgoing.destroy();
      far.destroy();
    };
    response.once('close', end);
    outgoing.on('continue', () => response.writeContinue());
    outgoing.on('error', () => {
      if (!response.headersSent) {
        answer(response, refusal(502, `${formatTarget(target)} broke the connection off.`));
      }
      far.destroy();
    });
    outgoing.on('response', (incoming) => {
      try {
        response.writeHead(incoming.statusCode ?? 502, incoming.statusMessage ?? '', [
          ...endToEnd(incoming, []),
          'Via',
          via,
        ]);
      } catch {
        end();
        answer(response, refusal(502, `${formatTarget(target)} gave an answer that is not HTTP.`));
        return;
      }
      pipeline(incoming, response, (error) => {
        if (error) {
          response.destroy();
        }
      });
    });
    pipeline(head, outgoing, () => undefined);
  }

  #isAllowed({ headers }: IncomingMessage): boolean {
    const { credentials } = this.#deps;
    if (!credentials) {
      return true;
    }
    const match = /^basic +([a-z0-9+/=_-]{1,1000})$/i.exec(headers['proxy-authorization'] ?? '');
    const [user = '', ...password] = Buffer.from(match?.[1] ?? '', 'base64')
      .toString('utf8')
      .split(':');
    return isAccepted(credentials, { user, password: password.join(':') });
  }

  #failed(target: Target, failure: TargetFailure): Refusal {
    this.#deps.log.debug('a connection through the proxy failed', { target: formatTarget(target), result: failure });
    return refusal(failure === 'timeout' ? 504 : 502, sentenceOf(failure, target));
  }

  /** The answer to a CONNECT that came to nothing: the client may ask again on another connection. */
  #refuse(socket: Socket, { status, sentence }: Refusal): void {
    if (socket.destroyed) {
      return;
    }
    const body = `${sentence}\n`;
    const lines = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      ...(status === 407 ? ['Proxy-Authenticate: Basic realm="Nearfield"'] : []),
      'Content-Type: text/plain; charset=utf-8',
      `Content-Length: ${Buffer.byteLength(body)}`,
      'Connection: close',
    ];
    const limit = this.#deps.clock.after(lingerMs, () => socket.destroy());
    socket.once('close', () => void limit.dispose());
    socket.once('end', () => socket.destroySoon());
    socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`);
    socket.resume();
  }
}

interface Found {
  readonly target: Target;
  /** For the Host field. */
  readonly authority: string;
  /** As it was written: a proxy changes neither path nor query (RFC 9110 §7.7). */
  readonly path: string;
}

function parseUrl(url: string): Found | Refusal {
  const match = /^http:\/\/([^/?#]+)([^#]*)$/i.exec(url);
  const authority = match?.[1] ?? '';
  const target = parseTarget(/:\d+$/.test(authority) ? authority : `${authority.replace(/:$/, '')}:80`);
  return target ? { target, authority, path: match?.[2] ?? '' } : notAProxyRequest;
}

/** Name and value in turn, as they came, without what belongs to one connection. */
function endToEnd({ rawHeaders, headers }: IncomingMessage, without: readonly string[]): string[] {
  const named = (headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase());
  const dropped = new Set([...hopByHop, ...without, ...named]);
  return rawHeaders.filter((_, index) => !dropped.has((rawHeaders[index - (index % 2)] ?? '').toLowerCase()));
}

/** A body whose length is not known is sent on in chunks; one that is has its own field. */
const framing = ({ headers }: IncomingMessage): string[] =>
  headers['transfer-encoding'] === undefined ? [] : ['Transfer-Encoding', 'chunked'];

function answer(response: ServerResponse, { status, sentence }: Refusal): void {
  if (response.headersSent || response.destroyed) {
    return;
  }
  // An unread body would be taken for the next request.
  response.writeHead(status, {
    'Content-Type': 'text/plain; charset=utf-8',
    Connection: 'close',
    ...(status === 407 ? { 'Proxy-Authenticate': 'Basic realm="Nearfield"' } : {}),
  });
  response.end(`${sentence}\n`);
}
