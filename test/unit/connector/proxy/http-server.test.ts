import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { systemClock } from '../../../../src/base/index.ts';
import { HttpProxyServer } from '../../../../src/connector/proxy/http-server.ts';
import type { Answer } from '../../../support/fake-tunnels.ts';
import { type Bench, log, openBench, Program } from './bench.ts';

const limit = { timeout: 10_000 };
const credentials = { user: 'nearfield', password: 'secret:with colon' };
const authorization = `Proxy-Authorization: Basic ${Buffer.from('nearfield:secret:with colon').toString('base64')}\r\n`;

let bench: Bench | undefined;
let server: HttpProxyServer | undefined;

afterEach(async () => {
  server?.dispose();
  await bench?.close();
});

async function start(answer: () => Answer, options: { isOpen?: boolean } = {}) {
  const made = await openBench(answer);
  bench = made;
  const proxy = new HttpProxyServer({
    clock: systemClock,
    log,
    targets: made.targets,
    credentials: options.isOpen ? undefined : credentials,
  });
  server = proxy;
  return { bench: made, program: new Program(await proxy.listen()) };
}

/** A web server in the pretend cluster. */
function web(respond: (request: IncomingMessage, response: ServerResponse) => void): () => Answer {
  const http = createHttpServer((request, response) => respond(request, response));
  return () => ({ kind: 'program', onSocket: (socket) => void http.emit('connection', socket) });
}

const echo = (): Answer => ({
  kind: 'program',
  onSocket(socket: Socket) {
    socket.write('hello ');
    socket.on('data', (chunk) => socket.write(chunk));
    socket.on('end', () => socket.end(' bye'));
  },
});

test('CONNECT opens a tunnel; what comes ahead is kept, and the half-close passes', limit, async () => {
  const { bench: made, program } = await start(echo);
  program.write(`CONNECT service-a.service-a-ns:8080 HTTP/1.1\r\nHost: x\r\n${authorization}\r\nahead`);
  assert.match(await program.readText(/ahead$/), /^HTTP\/1\.1 200 [^\r]*\r\n\r\nhello ahead$/);
  assert.deepEqual(made.tunnels.asked, ['tcp 10.100.0.10:8080']);
  program.write('more');
  assert.equal((await program.read(4)).toString(), 'more');
  program.socket.end();
  assert.equal((await program.rest()).toString(), ' bye');
});

for (const [result, status, sentence] of [
  ['refused', 502, /service-a:80 refused the connection/],
  ['unreachable', 502, /service-a:80 cannot be reached/],
  ['timeout', 504, /service-a:80 did not answer in time/],
  ['prohibited', 502, /the cluster forbids it/],
] as const) {
  test(`${result} in the cluster is ${status} with a sentence, for both ways to ask`, limit, async () => {
    const { program } = await start(() => ({ kind: 'fail', result }));
    program.write(`CONNECT service-a:80 HTTP/1.1\r\nHost: x\r\n${authorization}\r\n`);
    const tunnelled = (await program.rest()).toString();
    assert.match(tunnelled, new RegExp(`^HTTP/1\\.1 ${status} `));
    assert.match(tunnelled, sentence);
    const second = new Program(program.socket.remotePort ?? 0);
    second.write(`GET http://service-a/ HTTP/1.1\r\nHost: x\r\n${authorization}\r\n`);
    const relayed = (await second.rest()).toString();
    assert.match(relayed, new RegExp(`^HTTP/1\\.1 ${status} `));
    assert.match(relayed, sentence);
  });
}

test('a name that nobody knows is said to be that', limit, async () => {
  const { program } = await start(echo);
  program.write(`CONNECT nobody:80 HTTP/1.1\r\nHost: x\r\n${authorization}\r\n`);
  assert.match((await program.rest()).toString(), /^HTTP\/1\.1 502 [\s\S]*Neither the cluster nor this machine knows/);
});

for (const [what, header] of [
  ['nothing', ''],
  ['a wrong password', `Proxy-Authorization: Basic ${Buffer.from('nearfield:wrong').toString('base64')}\r\n`],
  ['a password without its user', `Proxy-Authorization: Basic ${Buffer.from(':secret').toString('base64')}\r\n`],
  ['another scheme', 'Proxy-Authorization: Bearer secret\r\n'],
  ['rubbish', 'Proxy-Authorization: Basic %%%\r\n'],
] as const) {
  test(`${what} is not enough: 407 asks for the password`, limit, async () => {
    const { bench: made, program } = await start(echo);
    program.write(`CONNECT service-a:80 HTTP/1.1\r\nHost: x\r\n${header}\r\n`);
    assert.match((await program.rest()).toString(), /^HTTP\/1\.1 407 [\s\S]*Proxy-Authenticate: Basic realm=/);
    const second = new Program(program.socket.remotePort ?? 0);
    second.write(`GET http://service-a/ HTTP/1.1\r\nHost: x\r\n${header}\r\n`);
    assert.match((await second.rest()).toString(), /^HTTP\/1\.1 407 [\s\S]*Proxy-Authenticate: Basic realm=/);
    assert.deepEqual(made.tunnels.asked, []);
  });
}

test('where no password is asked for, none is needed', limit, async () => {
  const { program } = await start(echo, { isOpen: true });
  program.write('CONNECT service-a:80 HTTP/1.1\r\nHost: x\r\n\r\n');
  assert.match(await program.readText(/hello $/), /^HTTP\/1\.1 200 /);
});

test(
  'a whole URL is asked for in the cluster: path untouched, Host from the URL, nothing of this hop',
  limit,
  async () => {
    const seen = Promise.withResolvers<{ url: string | undefined; raw: readonly string[] }>();
    const { program } = await start(
      web((request, response) => {
        seen.resolve({ url: request.url, raw: request.rawHeaders });
        response.writeHead(201, 'Made', [
          ['X-One', '1'],
          ['X-One', '2'],
        ] as unknown as string[]);
        response.end('body');
      }),
    );
    program.write(
      `GET http://service-a:8080/a/../%7Eb?c=d%20e HTTP/1.1\r\nHost: elsewhere\r\n${authorization}` +
        'Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nTE: trailers\r\nUpgrade: h2c\r\nX-End: a\r\nX-End: b\r\n\r\n',
    );
    const answer = await program.readText(/body\r\n0\r\n\r\n$|body$/);
    assert.match(answer, /^HTTP\/1\.1 201 Made\r\n/);
    assert.match(answer, /X-One: 1\r\nX-One: 2\r\n/);
    assert.match(answer, /Via: 1\.1 nearfield\r\n/);
    const { url, raw } = await seen.promise;
    assert.equal(url, '/a/../%7Eb?c=d%20e');
    assert.deepEqual(raw, [
      ...['Host', 'service-a:8080', 'X-End', 'a', 'X-End', 'b'],
      ...['Via', '1.1 nearfield', 'Connection', 'close'],
    ]);
  },
);

test('a whole URL that is not the cluster’s is asked for from this machine', limit, async () => {
  const { bench: made, program } = await start(echo);
  const here = createHttpServer((_request, response) => response.end('from here'));
  here.listen(0, '127.0.0.1');
  await once(here, 'listening');
  const address = here.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  program.write(`GET http://this-machine.example.org:${port}/ HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`);
  assert.match(await program.readText(/from here/), /^HTTP\/1\.1 200 /);
  assert.deepEqual(made.tunnels.asked, []);
  here.close();
});

test('bodies pass both ways whole, with a length and in chunks', limit, async () => {
  const { program } = await start(
    web((request, response) => {
      response.setHeader(
        'X-Framing',
        String(request.headers['content-length'] ?? request.headers['transfer-encoding']),
      );
      request.pipe(response);
    }),
  );
  program.write(`POST http://service-a/ HTTP/1.1\r\nHost: service-a\r\nContent-Length: 5\r\n${authorization}\r\nhello`);
  assert.match(await program.readText(/hello\r\n0\r\n\r\n$/), /X-Framing: 5\r\n/);
  program.write(
    `POST http://service-a/ HTTP/1.1\r\nHost: service-a\r\nTransfer-Encoding: chunked\r\n${authorization}\r\n5\r\nhello\r\n0\r\n\r\n`,
  );
  assert.match(await program.readText(/hello\r\n0\r\n\r\n$/), /X-Framing: chunked\r\n/, 'on the same connection');
});

test('a program that waits for 100 Continue gets it from the far end', limit, async () => {
  const { program } = await start(web((request, response) => void request.pipe(response)));
  program.write(
    `POST http://service-a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n${authorization}\r\n`,
  );
  assert.match(await program.readText(/\r\n\r\n$/), /^HTTP\/1\.1 100 Continue\r\n\r\n$/);
  program.write('ok');
  assert.match(await program.readText(/ok\r\n0\r\n\r\n$/), /^HTTP\/1\.1 200 /);
});

test('an answer that breaks off breaks off here too', limit, async () => {
  const { program } = await start(
    web((_request, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('only this', () => response.socket?.resetAndDestroy());
    }),
  );
  program.write(`GET http://service-a/ HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`);
  const answer = (await program.rest()).toString();
  assert.match(answer, /content-length: 100/i);
  assert.ok(!answer.endsWith('x'.repeat(100)));
  assert.equal(program.socket.destroyed || program.socket.readableEnded, true);
});

test('a far end that hangs up instead of answering is 502', limit, async () => {
  const { program } = await start(() => ({ kind: 'program', onSocket: (socket) => void socket.end() }));
  program.write(`GET http://service-a/ HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`);
  assert.match((await program.rest()).toString(), /^HTTP\/1\.1 502 [\s\S]*broke the connection off/);
});

test('a far end that does not speak HTTP is 502', limit, async () => {
  const { program } = await start(() => ({ kind: 'program', onSocket: (socket) => void socket.end('SSH-2.0-x\r\n') }));
  program.write(`GET http://service-a/ HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`);
  assert.match((await program.rest()).toString(), /^HTTP\/1\.1 502 /);
});

test('who goes away takes the connection in the cluster along', limit, async () => {
  const closed = Promise.withResolvers<void>();
  const { bench: made, program } = await start(web((request) => void request.on('close', () => closed.resolve())));
  program.write(`GET http://service-a/ HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`);
  while (made.tunnels.open === 0) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  program.socket.destroy();
  await closed.promise;
});

for (const [what, request] of [
  ['a path only', `GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n${authorization}\r\n`],
  ['https without CONNECT', `GET https://service-a/ HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`],
  ['a user in the URL', `GET http://user@service-a/ HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`],
  ['CONNECT without a port', `CONNECT service-a HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`],
  ['CONNECT to port 0', `CONNECT service-a:0 HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`],
  ['a line break in the target', `CONNECT service-a:80\rX HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`],
  [
    'two lengths',
    `POST http://service-a/ HTTP/1.1\r\nHost: a\r\n${authorization}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx`,
  ],
  [
    'a length and chunks',
    `POST http://service-a/ HTTP/1.1\r\nHost: a\r\n${authorization}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  ['no HTTP', '\x05\x01\x00\x16\x03\x01'],
] as const) {
  test(`${what} is a bad request, and reaches nothing`, limit, async () => {
    const { bench: made, program } = await start(echo);
    program.write(request);
    assert.match((await program.rest()).toString(), /^HTTP\/1\.1 400 /);
    assert.deepEqual(made.tunnels.asked, []);
  });
}

test('a header without an end is refused before it fills the memory', limit, async () => {
  const { program } = await start(echo);
  program.write(`GET http://service-a/ HTTP/1.1\r\nX: ${'x'.repeat(70_000)}`);
  assert.match((await program.rest()).toString(), /^HTTP\/1\.1 431 /);
});
